//! What a file says of itself, before anything else is believed of it.

use redb::ReadTransaction;

use super::fault::Fault;
use super::tables::{
    self, META, META_ABOUT, META_DAEMONS, META_GROUP, META_JOURNAL, META_READER_MIN, META_SCHEMA,
    ORIGIN, ORIGIN_FLEET, ORIGIN_STORE, ORIGIN_WRITER, SCHEMA, SCHEMA_JOURNALED,
};

/// What a file says of itself.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) schema: u64,
    pub(super) reader_min: u64,
    pub(super) group: u64,
    pub(super) store: Option<u128>,
    pub(super) writer: Option<String>,
    pub(super) fleet: Option<String>,
    /// The journal that the file goes on in; none: the file is all there is.
    pub(super) journal: Option<u64>,
    /// The sum of the names; none before schema 3.
    pub(super) names: Option<u64>,
    /// Whether all of this is what was written, as far as the schema can tell.
    pub(super) is_right: bool,
}

/// None if there is no schema number.
pub(super) fn read_about(transaction: &ReadTransaction) -> Result<Option<About>, Fault> {
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = |key| Ok::<_, Fault>(meta.get(key)?.map(|value| value.value()));
    let Some(schema) = number(META_SCHEMA)? else {
        return Ok(None);
    };
    let mut about = About {
        schema,
        reader_min: number(META_READER_MIN)?.unwrap_or(schema),
        group: number(META_GROUP)?.unwrap_or(0),
        journal: number(META_JOURNAL)?,
        names: number(META_DAEMONS)?,
        ..About::default()
    };
    let sum = number(META_ABOUT)?;
    match transaction.open_table(ORIGIN) {
        Ok(origin) => {
            let text = |key| Ok::<_, Fault>(origin.get(key)?.map(|value| value.value().to_owned()));
            about.store = text(ORIGIN_STORE)?.and_then(|id| u128::from_str_radix(&id, 16).ok());
            about.writer = text(ORIGIN_WRITER)?;
            about.fleet = text(ORIGIN_FLEET)?;
            // Older schemas have no sum, which schema 3 never lacks.
            about.is_right = match sum {
                Some(sum) => sum == tables::sum_of_about(&meta, &origin)?,
                None => schema < SCHEMA,
            };
        }
        // Schema 1 has none.
        Err(redb::TableError::TableDoesNotExist(_)) => {
            about.is_right = sum.is_none() && schema < SCHEMA;
        }
        Err(error) => return Err(error.into()),
    }
    // One without the other was not written by anybody.
    let is_journaled = about.journal.is_some();
    about.is_right &= schema > SCHEMA_JOURNALED || is_journaled == (schema == SCHEMA_JOURNALED);
    Ok(Some(about))
}
