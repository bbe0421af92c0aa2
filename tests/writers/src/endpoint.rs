//! One member's client URL, and a client that talks to this member and no other.

use std::fs;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Channel, Client, Identity, TlsOptions};
use tonic::transport::Endpoint as Address;

use crate::{Error, Result};

/// A member as clients reach it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What it is called in results.
    pub name: String,
    /// `http://ADDRESS:PORT`, or with `https`.
    pub url: String,
    /// For `https`.
    pub tls: Option<Tls>,
}

/// The authority that clients trust, and their own certificate, as PEM.
#[derive(Clone)]
pub struct Tls {
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads them from files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(ca: &Path, certificate: &Path, key: &Path) -> Result<Self> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| Error::Io(path.display().to_string(), error))
        };
        Ok(Self {
            ca: read(ca)?,
            certificate: read(certificate)?,
            key: read(key)?,
        })
    }
}

impl Endpoint {
    /// A member over HTTP.
    #[must_use]
    pub fn plain(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            tls: None,
        }
    }

    /// A client that connects when it is first used, and again whenever it has to.
    pub(crate) async fn client(&self, connect_timeout: Duration) -> Result<Client> {
        let wrong =
            |error: &dyn std::error::Error| Error::Endpoint(self.name.clone(), error.to_string());
        let mut address = Address::from_shared(self.url.clone())
            .map_err(|error| wrong(&error))?
            .connect_timeout(connect_timeout)
            .tcp_nodelay(true);
        if let Some(tls) = &self.tls {
            let options = TlsOptions::new()
                .ca_certificate(Certificate::from_pem(&tls.ca))
                .identity(Identity::from_pem(&tls.certificate, &tls.key));
            address = address.tls_config(options).map_err(|error| wrong(&error))?;
        }
        Client::from_channel(Channel::Tonic(address.connect_lazy()), None)
            .await
            .map_err(|error| wrong(&error))
    }
}
