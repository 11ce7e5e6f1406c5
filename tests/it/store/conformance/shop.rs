//! A small business to try the store with.

use passloom::domain::cards::{Card, Content, Publication, State};
use passloom::domain::ids::{CardId, IssuerId, SerialNumber, TargetAddress, TargetId, TemplateId, WorkspaceId};
use passloom::domain::time::Timestamp;
use passloom::domain::wallet::WalletKind;
use passloom::store::passes::{self, PassRecord};
use passloom::store::targets::{self, TargetKey, TargetKind};
use passloom::store::{Store, StoreError, Tx, cards, issuers, templates, workspaces};
use serde_json::{Map, json};

/// A moment from which the tests count: `at(1.5)` is one and a half seconds later.
pub fn at(seconds: f64) -> Timestamp {
    let micros = std::time::Duration::from_secs_f64(seconds.abs());
    let start = Timestamp::from_seconds(1_800_000_000);
    if seconds < 0.0 { start.minus(micros) } else { start.plus(micros) }
}

/// A workspace with an issuer and a published template.
#[derive(Debug, Clone)]
pub struct Shop {
    pub workspace: WorkspaceId,
    pub issuer: IssuerId,
    pub template: TemplateId,
}

impl Shop {
    pub async fn open(store: &Store, name: &str) -> Self {
        let shop = Self {
            workspace: WorkspaceId::parse(name).unwrap(),
            issuer: IssuerId::parse(&format!("pass.test.{name}")).unwrap(),
            template: TemplateId::parse("points").unwrap(),
        };
        let mut tx = store.begin().await.unwrap();
        workspaces::insert(&mut tx, &shop.workspace, name, b"secret", at(0.0)).await.unwrap();
        issuers::claim(&mut tx, &shop.issuer, &shop.workspace, (WalletKind::Apple, "TEAM"), at(0.0)).await.unwrap();
        templates::put_draft(&mut tx, &shop.workspace, &shop.template, &json!({"name": "Points"}), at(0.0))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        shop.publish(store, 1).await;
        shop
    }

    /// Publishes the template; answers the position.
    pub async fn publish(&self, store: &Store, version: i64) -> i64 {
        let mut tx = store.begin().await.unwrap();
        let position = workspaces::next_position(&mut tx, &self.workspace).await.unwrap();
        let publication = Publication { version, position, modified: at(0.0).seconds() + version };
        let document = json!({"name": "Points", "version": version});
        templates::publish(&mut tx, &self.workspace, &self.template, &document, &publication, at(0.0)).await.unwrap();
        tx.commit().await.unwrap();
        position
    }

    /// A card as an action makes it, not yet stored.
    pub fn card(&self, id: &str) -> Card {
        Card {
            workspace: self.workspace.clone(),
            id: CardId::parse(id).unwrap(),
            serial: SerialNumber::parse(&format!("serial-{id}")).unwrap(),
            content: Content {
                template: self.template.clone(),
                locale: None,
                attributes: Map::from_iter([("points".to_owned(), json!(0))]),
                state: State::Active,
                expires_at: None,
            },
            expired_at: None,
            sequence: None,
            revision: 1,
            position: 0,
            modified: at(0.0).seconds(),
            page_generation: 1,
            live_message: None,
            message: None,
            created_at: at(0.0),
            updated_at: at(0.0),
        }
    }

    /// Stores a new card with its place in the order of commits.
    pub async fn issue(&self, store: &Store, id: &str) -> Card {
        let mut card = self.card(id);
        let mut tx = store.begin().await.unwrap();
        assert!(insert(&mut tx, &card).await.unwrap());
        passes::insert_many(&mut tx, &self.workspace, &[(&card.id, &self.pass(&card))]).await.unwrap();
        card.position = workspaces::next_position(&mut tx, &self.workspace).await.unwrap();
        update(&mut tx, &card).await.unwrap();
        tx.commit().await.unwrap();
        card
    }

    /// The card's pass in Apple's wallet.
    pub fn pass(&self, card: &Card) -> PassRecord {
        let object_id = card.serial.as_str().to_owned();
        PassRecord { wallet: WalletKind::Apple, issuer: self.issuer.clone(), object_id, fetched: None }
    }

    pub fn target(&self, id: &str) -> TargetKey {
        let id = TargetId::parse(id).unwrap();
        TargetKey { workspace: self.workspace.clone(), issuer: self.issuer.clone(), id }
    }

    /// A phone that holds the cards.
    pub async fn phone(&self, store: &Store, id: &str, cards: &[&Card]) -> TargetKey {
        let key = self.target(id);
        let mut tx = store.begin().await.unwrap();
        targets::put(&mut tx, &key, &token("aa01"), TargetKind::Apns, at(0.0)).await.unwrap();
        for card in cards {
            targets::register(&mut tx, &key, &card.id, card.position, at(0.0)).await.unwrap();
        }
        tx.commit().await.unwrap();
        key
    }
}

/// Adds a card, without its place.
pub async fn insert(tx: &mut Tx, card: &Card) -> Result<bool, StoreError> {
    cards::insert_many(tx, &card.workspace, &[(card, page_token_hash(card))]).await
}

pub async fn update(tx: &mut Tx, card: &Card) -> Result<(), StoreError> {
    cards::update_many(tx, &card.workspace, &[card]).await
}

pub fn page_token_hash(card: &Card) -> Vec<u8> {
    format!("{}/{}", card.workspace, card.id).into_bytes()
}

pub fn token(text: &str) -> TargetAddress {
    TargetAddress::parse(text).unwrap()
}
