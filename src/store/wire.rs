//! Changes as bytes: JSON, one array of rows put and keys deleted per change.
//!
//! JSON because it names its fields: a file outlives the version that wrote it, and people can
//! read it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    row::{Index, Key, Row},
    tables::Change,
};

/// One step of a change.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Step {
    /// A row is now so.
    #[serde(rename = "+")]
    Put(Row),
    /// A row is no more.
    #[serde(rename = "-")]
    Delete(Key),
    /// What came before led to this index.
    #[serde(rename = "=")]
    Index(Index),
}

/// The bytes of a change.
pub(super) fn encode(changes: &[Change]) -> Vec<u8> {
    let steps: Vec<Step> = changes
        .iter()
        .map(|change| match &change.after {
            Some(row) => Step::Put(row.clone()),
            None => Step::Delete(change.key.clone()),
        })
        .collect();
    serde_json::to_vec(&steps).expect("texts and numbers under string keys are JSON")
}

/// The bytes of rows, as [`decode`] takes them.
pub(super) fn encode_rows(rows: &[Row]) -> Vec<u8> {
    let steps: Vec<Step> = rows.iter().cloned().map(Step::Put).collect();
    serde_json::to_vec(&steps).expect("texts and numbers under string keys are JSON")
}

/// The bytes that say which index a snapshot is of.
pub(super) fn encode_index(index: Index) -> Vec<u8> {
    serde_json::to_vec(&[Step::Index(index)]).expect("a number is JSON")
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
