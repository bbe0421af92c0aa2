//! The HTTP client, with bounds on everything.

use std::io::Read;
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Timeout};

use super::error::ArtifactError;
use super::location::Location;

/// Bounds of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For reaching the server, TLS included.
    pub connect: Duration,
    /// Without a byte from the server.
    pub idle: Duration,
    /// For the whole download.
    pub total: Duration,
    /// Size of an archive in bytes.
    pub largest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
            largest: 512 << 20,
        }
    }
}

const CHECK_URL: &str = "check the URL, the version and the architecture";
const CHECK_NETWORK: &str =
    "check the network and the proxy variables, or download it by hand and give its path";
const CHECK_CERTIFICATE: &str =
    "check the server's certificate against this machine's certificate store and clock";
const AGAIN: &str = "try again";

/// Starts a download: the body, and its size if the server says so.
pub(super) fn open(
    url: &str,
    limits: &Limits,
) -> Result<(impl Read + use<>, Option<u64>), ArtifactError> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(RootCerts::PlatformVerifier)
        .build();
    let agent: Agent = Agent::config_builder()
        .tls_config(tls)
        // A redirection must not lead from https to http.
        .https_only(is_https(url))
        .timeout_connect(Some(limits.connect))
        .timeout_per_read(Some(limits.idle))
        .timeout_global(Some(limits.total))
        .user_agent(concat!("quorate/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let response = agent
        .get(url)
        .call()
        .map_err(|error| failure(url, &error))?;
    let body = response.into_body();
    let size = body.content_length();
    Ok((body.into_reader(), size))
}

/// What an error of the client means, in words that name no query.
pub(super) fn failure(url: &str, error: &ureq::Error) -> ArtifactError {
    use ureq::Error;
    let (why, remedy) = match error {
        Error::StatusCode(status) => {
            let reason = ureq::http::StatusCode::from_u16(*status)
                .ok()
                .and_then(|status| status.canonical_reason())
                .unwrap_or_default();
            let remedy = if *status >= 500 || *status == 429 {
                AGAIN
            } else {
                CHECK_URL
            };
            (
                format!("the server answers {status} {reason}")
                    .trim_end()
                    .to_owned(),
                remedy,
            )
        }
        Error::BadUri(_) | Error::Http(_) => ("it is not a URL".to_owned(), CHECK_URL),
        Error::HostNotFound => ("its host name is not known".to_owned(), CHECK_NETWORK),
        Error::RequireHttpsOnly(_) => (
            "the server redirects to plain HTTP".to_owned(),
            "name the final location",
        ),
        Error::TooManyRedirects | Error::RedirectFailed => (
            "the server redirects without end".to_owned(),
            "name the final location",
        ),
        Error::Timeout(timeout) => {
            let why = match timeout {
                Timeout::Resolve => "its host name was not resolved in time",
                Timeout::Connect => "the server was not reached in time",
                Timeout::Global | Timeout::PerCall => "the download took too long",
                _ => "the server stopped answering",
            };
            (why.to_owned(), CHECK_NETWORK)
        }
        Error::NativeTls(error) => (format!("TLS failed: {error}"), CHECK_CERTIFICATE),
        Error::Tls(why) => (format!("TLS failed: {why}"), CHECK_CERTIFICATE),
        Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            ("the connection ended in the middle".to_owned(), AGAIN)
        }
        Error::BodyStalled => ("the connection ended in the middle".to_owned(), AGAIN),
        other => (other.to_string(), CHECK_NETWORK),
    };
    ArtifactError::Fetch {
        location: Location::Url(url.to_owned()).to_string(),
        why,
        remedy,
    }
}

/// The connection ended before the size that the server had announced.
pub(super) fn cut_off(url: &str, done: u64, size: u64) -> ArtifactError {
    ArtifactError::Fetch {
        location: Location::Url(url.to_owned()).to_string(),
        why: format!("the connection ended after {done} of {size} bytes"),
        remedy: AGAIN,
    }
}

fn is_https(url: &str) -> bool {
    url.get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}
