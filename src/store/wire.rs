//! Changes as bytes: JSON, one array of rows put and keys deleted per change.
//!
//! JSON because it names its fields: a file outlives the version that wrote it, and people can
//! read it.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer as _};

use super::{
    row::{Index, Key, Row},
    tables::Change,
};

/// One step of a change; borrowed where it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Step<R = Row, K = Key> {
    /// A row is now so.
    #[serde(rename = "+")]
    Put(R),
    /// A row is no more.
    #[serde(rename = "-")]
    Delete(K),
    /// What came before led to this index.
    #[serde(rename = "=")]
    Index(Index),
}

/// The bytes of a change, in the place of what is in the buffer.
pub(super) fn encode(changes: &[Change], bytes: &mut Vec<u8>) {
    write(
        bytes,
        changes.iter().map(|change| match &change.after {
            Some(row) => Step::Put(row),
            None => Step::Delete(&change.key),
        }),
    );
}

/// The bytes of rows, in the place of what is in the buffer.
pub(super) fn encode_rows(rows: &[Row], bytes: &mut Vec<u8>) {
    write(bytes, rows.iter().map(Step::Put));
}

/// The bytes that say which index a snapshot is of, in the place of what is in the buffer.
pub(super) fn encode_index(index: Index, bytes: &mut Vec<u8>) {
    write(bytes, std::iter::once(Step::Index(index)));
}

fn write<'a>(bytes: &mut Vec<u8>, steps: impl Iterator<Item = Step<&'a Row, &'a Key>>) {
    bytes.clear();
    serde_json::Serializer::new(bytes)
        .collect_seq(steps)
        .expect("texts and numbers under string keys are JSON");
}

/// The steps in the bytes of a change.
pub(super) fn decode(bytes: &[u8]) -> serde_json::Result<Vec<Step>> {
    serde_json::from_slice(bytes)
}

/// Bytes as base64.
pub(super) mod base64_bytes {
    use super::Arc;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(in crate::store) fn serialize<S: Serializer>(
        bytes: &Arc<[u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        STANDARD.encode(bytes).serialize(serializer)
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<[u8]>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Into::into).map_err(D::Error::custom)
    }
}
