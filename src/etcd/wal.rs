//! Whose data is this: the member and cluster ID in the head of a WAL file, read without etcd.
//!
//! Source: etcd `server/storage/wal` (`encoder.go`, `walpb/record.proto`): frames of an eight-byte little-endian
//! length field and a protobuf record; every file starts with a CRC record and a metadata record.

use serde::{Deserialize, Serialize};

use super::id::{ClusterId, MemberId};

/// Bytes from the start of a WAL file that are sure to hold its metadata.
pub const HEAD_BYTES: usize = 512;

const METADATA: u64 = 1;
const CRC: u64 = 4;

/// Identity written in a WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalIdentity {
    /// The member whose log this is.
    pub member_id: MemberId,
    /// The cluster it belongs to.
    pub cluster_id: ClusterId,
}

/// Why the head of a WAL file has no readable identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The file ends, or is preallocated zeros, before its metadata.
    #[error("the WAL has no metadata record (it was never written to, or is cut off)")]
    Truncated,
    /// The bytes are no WAL.
    #[error("the WAL is corrupt: {0}")]
    Corrupt(&'static str),
}

/// Reads the identity from the first [`HEAD_BYTES`] of a WAL file.
pub fn identity(head: &[u8]) -> Result<WalIdentity, WalError> {
    let mut rest = head;
    loop {
        let (field, after) = rest.split_first_chunk::<8>().ok_or(WalError::Truncated)?;
        let field = u64::from_le_bytes(*field);
        if field == 0 {
            return Err(WalError::Truncated);
        }
        let length = (field & 0x00ff_ffff_ffff_ffff) as usize;
        let padding = if field >> 63 == 1 {
            ((field >> 56) & 0x7) as usize
        } else {
            0
        };
        let record = after.get(..length).ok_or(WalError::Truncated)?;
        match Record::parse(record)? {
            Record { kind: CRC, .. } => {}
            Record {
                kind: METADATA,
                data,
            } => return metadata(data),
            _ => return Err(WalError::Corrupt("a record before its metadata")),
        }
        rest = after.get(length + padding..).ok_or(WalError::Truncated)?;
    }
}

struct Record<'a> {
    kind: u64,
    data: &'a [u8],
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, WalError> {
        let mut record = Record { kind: 0, data: &[] };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Varint(kind)) => record.kind = kind,
                (3, Value::Bytes(data)) => record.data = data,
                _ => {}
            }
        }
        Ok(record)
    }
}

fn metadata(bytes: &[u8]) -> Result<WalIdentity, WalError> {
    let (mut member, mut cluster) = (None, None);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Varint(id)) => member = Some(MemberId(id)),
            (2, Value::Varint(id)) => cluster = Some(ClusterId(id)),
            _ => {}
        }
    }
    match (member, cluster) {
        (Some(member_id), Some(cluster_id)) => Ok(WalIdentity {
            member_id,
            cluster_id,
        }),
        _ => Err(WalError::Corrupt("metadata without IDs")),
    }
}

enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Protobuf fields with the two wire types that WAL records use.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, WalError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self
                .0
                .split_first()
                .ok_or(WalError::Corrupt("a cut-off number"))?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WalError::Corrupt("a number of more than 64 bits"))
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), WalError> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= self.0.len())
                    .ok_or(WalError::Corrupt("a field longer than its record"))?;
                let (bytes, rest) = self.0.split_at(length);
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return Err(WalError::Corrupt("an unknown wire type")),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), WalError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn frame(record: &[u8], out: &mut Vec<u8>) {
        let padding = (8 - record.len() % 8) % 8;
        let mut field = record.len() as u64;
        if padding != 0 {
            field |= (0x80 | padding as u64) << 56;
        }
        out.extend(field.to_le_bytes());
        out.extend(record);
        out.extend(std::iter::repeat_n(0, padding));
    }

    fn head(member: u64, cluster: u64) -> Vec<u8> {
        let mut metadata = vec![0x08];
        varint(member, &mut metadata);
        metadata.push(0x10);
        varint(cluster, &mut metadata);
        let mut record = vec![0x08, 0x01, 0x10, 0x2a, 0x1a, metadata.len() as u8];
        record.extend(&metadata);
        let mut out = Vec::new();
        frame(&[0x08, 0x04, 0x10, 0x00], &mut out);
        frame(&record, &mut out);
        out
    }

    #[test]
    fn empty_and_preallocated_files_have_no_identity() {
        assert_eq!(identity(&[]), Err(WalError::Truncated));
        assert_eq!(identity(&[0; HEAD_BYTES]), Err(WalError::Truncated));
        assert_eq!(identity(&head(7, 8)[..20]), Err(WalError::Truncated));
    }

    proptest! {
        #[test]
        fn written_identity_is_read(member: u64, cluster: u64) {
            let mut bytes = head(member, cluster);
            bytes.resize(HEAD_BYTES, 0);
            prop_assert_eq!(identity(&bytes), Ok(WalIdentity { member_id: MemberId(member), cluster_id: ClusterId(cluster) }));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = identity(&bytes);
        }
    }
}
