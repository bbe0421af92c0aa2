//! Tables that the marker of every node repeats.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Rows by node name that are the same on every host of a cluster. A clone shares them, and two tables are compared by
/// digests that were computed when each was made: n markers that name n nodes each cost no n × n comparisons.
#[derive(Debug, Clone)]
pub struct Table<V> {
    rows: Arc<BTreeMap<String, V>>,
    digest: [u8; 32],
}

impl<V> Table<V> {
    /// SHA-256 of the rows as they are written.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl<V: Serialize + Clone> Table<V> {
    /// This table with those rows of another that it has no row for.
    pub fn with(&self, other: &Self) -> Self {
        if self == other || other.keys().all(|name| self.contains_key(name)) {
            return self.clone();
        }
        let mut rows = (**other).clone();
        rows.extend((**self).clone());
        rows.into()
    }
}

impl<V: Serialize> From<BTreeMap<String, V>> for Table<V> {
    fn from(rows: BTreeMap<String, V>) -> Self {
        let text = serde_json::to_vec(&rows).unwrap_or_default();
        Self {
            rows: Arc::new(rows),
            digest: Sha256::digest(text).into(),
        }
    }
}

impl<V: Serialize> FromIterator<(String, V)> for Table<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(rows: I) -> Self {
        BTreeMap::from_iter(rows).into()
    }
}

impl<V: Serialize> Default for Table<V> {
    fn default() -> Self {
        BTreeMap::new().into()
    }
}

impl<V> Deref for Table<V> {
    type Target = BTreeMap<String, V>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl<'a, V> IntoIterator for &'a Table<V> {
    type Item = (&'a String, &'a V);
    type IntoIter = std::collections::btree_map::Iter<'a, String, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

impl<V> PartialEq for Table<V> {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl<V> Eq for Table<V> {}

impl<V: Serialize> Serialize for Table<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.rows.serialize(serializer)
    }
}

impl<'de, V: Serialize + Deserialize<'de>> Deserialize<'de> for Table<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_as_its_rows_and_equal_where_they_are() {
        let table: Table<u8> = [("a".to_owned(), 1), ("b".to_owned(), 2)]
            .into_iter()
            .collect();
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(text, r#"{"a":1,"b":2}"#);
        assert_eq!(serde_json::from_str::<Table<u8>>(&text).unwrap(), table);
        for other in [r#"{"a":1}"#, r#"{"a":1,"b":3}"#, r#"{"a":1,"c":2}"#] {
            assert_ne!(serde_json::from_str::<Table<u8>>(other).unwrap(), table);
        }
    }

    #[test]
    fn rows_of_another_table_come_beside_and_not_in_place() {
        let table = |text| serde_json::from_str::<Table<u8>>(text).unwrap();
        let one = table(r#"{"a":1,"b":2}"#);
        assert_eq!(one.with(&table(r#"{"b":9}"#)), one);
        let both = table(r#"{"a":1,"b":2,"c":3}"#);
        assert_eq!(one.with(&table(r#"{"b":9,"c":3}"#)), both);
    }
}
