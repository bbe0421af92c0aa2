//! The managed authority and the certificates it issues, on the operator's side.
