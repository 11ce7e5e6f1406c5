// The button that copies the card's address, for browsers inside other apps. Without this module the address can be
// selected by hand: the button stays hidden until there is something behind it.

class CopyLink {
  #source;
  #button;
  #status;

  constructor(element) {
    const part = (name) => element.querySelector(`[data-copy-link="${name}"]`);
    this.#source = part("source");
    this.#button = part("button");
    this.#status = part("status");
    this.#source.addEventListener("focus", () => this.#source.select());
    this.#button.addEventListener("click", () => this.#copy());
    this.#button.hidden = false;
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#source.value);
    } catch {
      // Many in-app browsers have no clipboard for pages, but still know the old way.
      this.#source.focus();
      this.#source.setSelectionRange(0, this.#source.value.length);
      if (!document.execCommand("copy")) return;
    }
    const label = this.#button.textContent;
    this.#button.textContent = this.#button.dataset.done;
    this.#status.textContent = this.#button.dataset.done;
    setTimeout(() => {
      this.#button.textContent = label;
      this.#status.textContent = "";
    }, 2500);
  }
}

for (const element of document.querySelectorAll('[data-controller="copy-link"]')) new CopyLink(element);
