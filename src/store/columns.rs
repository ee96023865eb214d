//! Domain newtypes as column types, for either database, so that the domain itself need not know of any.

use sqlx::{Database, Decode, Encode, Type, encode::IsNull, error::BoxDynError};
use uuid::Uuid;

use crate::domain::{
    id::{EventId, ServiceAccountId, SessionId, UserId},
    time::Timestamp,
};

macro_rules! column {
    ($type:ty, $inner:ty, $get:expr, $make:expr) => {
        impl<DB: Database> Type<DB> for $type
        where
            $inner: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <$inner as Type<DB>>::type_info()
            }

            fn compatible(info: &DB::TypeInfo) -> bool {
                <$inner as Type<DB>>::compatible(info)
            }
        }

        impl<'q, DB: Database> Encode<'q, DB> for $type
        where
            $inner: Encode<'q, DB>,
        {
            fn encode_by_ref(&self, buffer: &mut <DB as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let get: fn(&$type) -> $inner = $get;
                get(self).encode(buffer)
            }
        }

        impl<'r, DB: Database> Decode<'r, DB> for $type
        where
            $inner: Decode<'r, DB>,
        {
            fn decode(value: <DB as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
                <$inner as Decode<'r, DB>>::decode(value).map($make)
            }
        }
    };
}

column!(Timestamp, i64, |t| t.as_micros(), Timestamp::from_micros);
column!(UserId, Uuid, |id| *id.as_uuid(), UserId::from_uuid);
column!(SessionId, Uuid, |id| *id.as_uuid(), SessionId::from_uuid);
column!(ServiceAccountId, Uuid, |id| *id.as_uuid(), ServiceAccountId::from_uuid);
column!(EventId, Uuid, |id| *id.as_uuid(), EventId::from_uuid);
