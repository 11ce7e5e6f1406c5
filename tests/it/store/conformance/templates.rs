use passloom::domain::cards::Publication;
use passloom::store::templates::{self, FileKey, ImageKey};
use serde_json::json;

use super::shop::{Shop, at};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    a_draft_may_change_without_touching_what_is_published,
    a_template_that_was_never_published_has_no_publication,
    a_version_keeps_the_pictures_that_the_draft_had,
    a_ready_file_is_found_with_its_version_only,
    another_workspace_sees_no_template,
    a_deleted_template_leaves_no_content_but_what_others_show,
];

fn file<'a>(tier: &'a str, path: &'a str) -> FileKey<'a> {
    FileKey { tier, variant: "", path }
}

const ICON: ImageKey<'static> = ImageKey { role: "icon", locale: "", tier: "" };

async fn a_draft_may_change_without_touching_what_is_published(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let (workspace, template) = (&shop.workspace, &shop.template);
    let draft = json!({"name": "New", "kind": "points", "text": "Привет \u{1F370}", "list": [1.5, null, true]});
    let mut tx = store.begin().await.unwrap();
    templates::put_draft(&mut tx, workspace, template, &draft, at(1.0)).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = store.begin().await.unwrap();
    let row = templates::lock(&mut tx, workspace, template).await.unwrap().unwrap();
    assert_eq!(row.draft.0, draft);
    assert_eq!(row.version, Some(1));
    assert_eq!(row.publication().unwrap().position, 1);
    assert_eq!(templates::document(&mut tx, workspace, template, 1).await.unwrap().unwrap()["name"], "Points");
    assert_eq!(templates::document(&mut tx, workspace, template, 2).await.unwrap(), None);
    drop(tx);

    let position = shop.publish(&store, 2).await;
    let mut reader = store.read().await.unwrap();
    let publication = templates::publication(&mut reader, workspace, template).await.unwrap().unwrap();
    assert_eq!((publication.version, publication.position), (2, position));
    assert_eq!(templates::document(&mut reader, workspace, template, 1).await.unwrap().unwrap()["version"], 1);
}

async fn a_template_that_was_never_published_has_no_publication(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let id = passloom::domain::ids::TemplateId::parse("draft").unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(templates::find(&mut tx, &shop.workspace, &id).await.unwrap().is_none());
    templates::put_draft(&mut tx, &shop.workspace, &id, &json!({}), at(0.0)).await.unwrap();
    assert!(templates::find(&mut tx, &shop.workspace, &id).await.unwrap().unwrap().publication().is_none());
    assert!(templates::publication(&mut tx, &shop.workspace, &id).await.unwrap().is_none());
}

async fn a_version_keeps_the_pictures_that_the_draft_had(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let (workspace, template) = (&shop.workspace, &shop.template);
    let gold = ImageKey { role: "icon", locale: "", tier: "gold" };
    let mut tx = store.begin().await.unwrap();
    for (digest, content) in [(b"1", b"old"), (b"2", b"new")] {
        templates::put_blob(&mut tx, workspace, digest, content).await.unwrap();
        // The same content may be kept again.
        templates::put_blob(&mut tx, workspace, digest, content).await.unwrap();
    }
    templates::put_image(&mut tx, workspace, template, &ICON, b"1").await.unwrap();
    templates::put_image(&mut tx, workspace, template, &gold, b"1").await.unwrap();
    tx.commit().await.unwrap();
    shop.publish(&store, 2).await;

    let mut tx = store.begin().await.unwrap();
    templates::put_image(&mut tx, workspace, template, &ICON, b"2").await.unwrap();
    assert!(templates::delete_image(&mut tx, workspace, template, &gold).await.unwrap());
    assert!(!templates::delete_image(&mut tx, workspace, template, &gold).await.unwrap());
    let image = async |tx: &mut _, version, key| templates::image(tx, workspace, template, version, key).await.unwrap();
    assert_eq!(image(&mut tx, 0, &ICON).await.as_deref(), Some(b"new".as_slice()));
    assert_eq!(image(&mut tx, 2, &ICON).await.as_deref(), Some(b"old".as_slice()));
    assert_eq!(image(&mut tx, 2, &gold).await.as_deref(), Some(b"old".as_slice()));
    assert_eq!(image(&mut tx, 1, &ICON).await, None);
    let all = templates::images(&mut tx, workspace, template).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].role.as_str(), all[0].digest.as_slice(), all[0].bytes), ("icon", b"2".as_slice(), 3));
    assert_eq!(all[0].beginning, b"new");
    let blob = templates::blob(&mut tx, workspace, b"2").await.unwrap();
    assert_eq!(blob.as_deref(), Some(b"new".as_slice()));
}

async fn a_ready_file_is_found_with_its_version_only(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let (workspace, template) = (&shop.workspace, &shop.template);
    let mut tx = store.begin().await.unwrap();
    templates::put_blob(&mut tx, workspace, b"1", b"content").await.unwrap();
    templates::put_file(&mut tx, workspace, template, 1, &file("", "icon.png"), b"1").await.unwrap();
    templates::put_file(&mut tx, workspace, template, 1, &file("gold", "icon.png"), b"1").await.unwrap();
    let files = templates::files(&mut tx, workspace, template, 1).await.unwrap();
    let names: Vec<_> = files.iter().map(|f| (f.tier.as_str(), f.path.as_str())).collect();
    assert_eq!(names, [("", "icon.png"), ("gold", "icon.png")]);
    assert_eq!(files[0].content, b"content");
    assert!(templates::files(&mut tx, workspace, template, 2).await.unwrap().is_empty());
}

async fn another_workspace_sees_no_template(database: TestDatabase) {
    let store = database.store().await;
    let bakery = Shop::open(&store, "bakery").await;
    let spa = Shop::open(&store, "spa").await;
    let only_bakery = passloom::domain::ids::TemplateId::parse("cakes").unwrap();
    let mut tx = store.begin().await.unwrap();
    templates::put_draft(&mut tx, &bakery.workspace, &only_bakery, &json!({}), at(0.0)).await.unwrap();
    let publication = Publication { version: 1, position: 5, modified: 5 };
    let document = json!({});
    templates::publish(&mut tx, &bakery.workspace, &only_bakery, &document, &publication, at(0.0)).await.unwrap();
    assert!(templates::find(&mut tx, &spa.workspace, &only_bakery).await.unwrap().is_none());
    assert!(templates::document(&mut tx, &spa.workspace, &only_bakery, 1).await.unwrap().is_none());
    assert!(templates::publication(&mut tx, &spa.workspace, &only_bakery).await.unwrap().is_none());
    let stray = templates::publish(&mut tx, &spa.workspace, &only_bakery, &document, &publication, at(0.0)).await;
    assert!(matches!(stray, Err(passloom::store::StoreError::RowGone("templates"))), "{stray:?}");
}

async fn a_deleted_template_leaves_no_content_but_what_others_show(database: TestDatabase) {
    let store = database.store().await;
    let shop = Shop::open(&store, "bakery").await;
    let (workspace, template) = (&shop.workspace, &shop.template);
    let other = passloom::domain::ids::TemplateId::parse("other").unwrap();
    let mut tx = store.begin().await.unwrap();
    templates::put_draft(&mut tx, workspace, &other, &json!({}), at(0.0)).await.unwrap();
    for (digest, content) in [(b"1", b"own"), (b"2", b"all"), (b"3", b"the")] {
        templates::put_blob(&mut tx, workspace, digest, content).await.unwrap();
    }
    templates::put_image(&mut tx, workspace, template, &ICON, b"1").await.unwrap();
    templates::put_file(&mut tx, workspace, template, 1, &file("", "icon.png"), b"2").await.unwrap();
    templates::put_file(&mut tx, workspace, template, 1, &file("", "logo.png"), b"3").await.unwrap();
    templates::put_image(&mut tx, workspace, &other, &ICON, b"2").await.unwrap();
    assert_eq!(templates::last_deleted_version(&mut tx, workspace, template).await.unwrap(), 0);
    assert_eq!(templates::delete(&mut tx, workspace, template).await.unwrap(), Some(true));
    assert_eq!(templates::delete(&mut tx, workspace, template).await.unwrap(), None);
    assert_eq!(templates::last_deleted_version(&mut tx, workspace, template).await.unwrap(), 1);
    for (digest, kept) in [(b"1", false), (b"2", true), (b"3", false)] {
        assert_eq!(templates::blob(&mut tx, workspace, digest).await.unwrap().is_some(), kept, "{digest:?}");
    }
}
