//! Conversions of names and times to and from the database's types.

use super::StoreError;
use crate::domain::ids::{
    CardId, FieldKey, IssuerId, PassTypeId, SerialNumber, TargetAddress, TargetId, TemplateId, WorkspaceId,
};
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;

/// Implements conversions for texts. They were checked when they were stored and are not checked again.
macro_rules! stored_as_text {
    ($($name:ident),*) => { $(
        impl<DB: sqlx::Database> sqlx::Type<DB> for $name where String: sqlx::Type<DB> {
            fn type_info() -> DB::TypeInfo {
                <String as sqlx::Type<DB>>::type_info()
            }
            fn compatible(ty: &DB::TypeInfo) -> bool {
                <String as sqlx::Type<DB>>::compatible(ty)
            }
        }
        impl<'q, DB: sqlx::Database> sqlx::Encode<'q, DB> for $name where String: sqlx::Encode<'q, DB> {
            fn encode_by_ref(
                &self,
                buf: &mut DB::ArgumentBuffer,
            ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                self.as_str().to_owned().encode(buf)
            }
        }
        impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for $name where String: sqlx::Decode<'r, DB> {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                Ok(Self::trusted(<String as sqlx::Decode<'r, DB>>::decode(value)?))
            }
        }
    )* };
}

stored_as_text!(WorkspaceId, TemplateId, CardId, SerialNumber, IssuerId, PassTypeId, TargetId, TargetAddress, FieldKey);

impl<DB: sqlx::Database> sqlx::Type<DB> for WalletKind
where
    String: sqlx::Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <String as sqlx::Type<DB>>::type_info()
    }
    fn compatible(ty: &DB::TypeInfo) -> bool {
        <String as sqlx::Type<DB>>::compatible(ty)
    }
}

impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for WalletKind
where
    String: sqlx::Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        let word = <String as sqlx::Decode<'r, DB>>::decode(value)?;
        Self::parse(&word).ok_or_else(|| format!("{word:?} is not a wallet").into())
    }
}

impl<DB: sqlx::Database> sqlx::Type<DB> for Timestamp
where
    i64: sqlx::Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <i64 as sqlx::Type<DB>>::type_info()
    }
    fn compatible(ty: &DB::TypeInfo) -> bool {
        <i64 as sqlx::Type<DB>>::compatible(ty)
    }
}

impl<'q, DB: sqlx::Database> sqlx::Encode<'q, DB> for Timestamp
where
    i64: sqlx::Encode<'q, DB>,
{
    fn encode_by_ref(&self, buf: &mut DB::ArgumentBuffer) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        self.micros().encode(buf)
    }
}

impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for Timestamp
where
    i64: sqlx::Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self::from_micros(<i64 as sqlx::Decode<'r, DB>>::decode(value)?))
    }
}

/// A JSON document, stored as its text. PostgreSQL's JSONB would lose the order of members: a draft would not come back
/// as it was put, and equal cards would not give equal bytes on both databases.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T, DB: sqlx::Database> sqlx::Type<DB> for Json<T>
where
    String: sqlx::Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <String as sqlx::Type<DB>>::type_info()
    }
    fn compatible(ty: &DB::TypeInfo) -> bool {
        <String as sqlx::Type<DB>>::compatible(ty)
    }
}

impl<'q, T: serde::Serialize, DB: sqlx::Database> sqlx::Encode<'q, DB> for Json<T>
where
    String: sqlx::Encode<'q, DB>,
{
    fn encode_by_ref(&self, buf: &mut DB::ArgumentBuffer) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        serde_json::to_string(&self.0)?.encode(buf)
    }
}

impl<'r, T: serde::de::DeserializeOwned, DB: sqlx::Database> sqlx::Decode<'r, DB> for Json<T>
where
    String: sqlx::Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self(serde_json::from_str(&<String as sqlx::Decode<'r, DB>>::decode(value)?)?))
    }
}

/// Checks that exactly one row was changed; otherwise the row is gone.
pub(super) fn one_row(changed: u64, table: &'static str) -> Result<(), StoreError> {
    if changed == 1 { Ok(()) } else { Err(StoreError::RowGone(table)) }
}
