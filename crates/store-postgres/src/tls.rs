//! TLS as the URL asks for it, on every connection: `sslmode` and `sslrootcert`, as libpq knows them.
//!
//! | `sslmode` | connection | certificate |
//! |---|---|---|
//! | `disable` | plain | |
//! | `prefer` (default) | TLS if the server has it | not checked |
//! | `require` | TLS | checked against `sslrootcert` if that is given, else not |
//! | `verify-ca` | TLS | signed by `sslrootcert`, or by an authority of the system |
//! | `verify-full` | TLS | the same, and for this host |

use outlive_store::StoreError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::str::FromStr as _;
use std::sync::Arc;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Makes TLS sessions.
pub(crate) type Tls = MakeRustlsConnect;

/// What is checked of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    Full,
}

/// Reads a URL: what tokio-postgres knows of it, and TLS.
pub(crate) fn read(url: &str) -> Result<(Config, Tls), StoreError> {
    let (url, options) = split(url);
    let mode = options.iter().find(|(name, _)| *name == "sslmode").map_or("prefer", |(_, mode)| mode);
    let file = options.iter().find(|(name, _)| *name == "sslrootcert").map(|(_, file)| file.as_str());
    let (ssl, check) = match mode {
        "disable" => (SslMode::Disable, Check::Nothing),
        "prefer" | "allow" => (SslMode::Prefer, Check::Nothing),
        "require" if file.is_none() => (SslMode::Require, Check::Nothing),
        "require" | "verify-ca" => (SslMode::Require, Check::Authority),
        "verify-full" => (SslMode::Require, Check::Full),
        other => return Err(refused(format!("sslmode={other} is not known; verify-full is the safe one"))),
    };
    let mut config = Config::from_str(&url).map_err(|error| {
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        refused(format!("the URL of the database cannot be read: {error} {why}"))
    })?;
    config.ssl_mode(ssl);
    if config.get_application_name().is_none() {
        config.application_name("outlive");
    }
    Ok((config, MakeRustlsConnect::new(client(check, file)?)))
}

/// Takes `sslmode` and `sslrootcert` out of a URL.
fn split(url: &str) -> (String, Vec<(&'static str, String)>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), Vec::new()) };
    let (mut ours, mut rest) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => ours.push(("sslmode", mode.to_owned())),
            Some(("sslrootcert", file)) => ours.push(("sslrootcert", decoded(file))),
            _ => rest.push(pair),
        }
    }
    let rest = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    (format!("{base}{rest}"), ours)
}

/// `%2F` and the like.
fn decoded(text: &str) -> String {
    let (mut bytes, mut left) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = left.split_first() {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        let code = code.filter(|_| first == b'%');
        bytes.push(code.unwrap_or(first));
        left = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn client(check: Check, file: Option<&str>) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| refused(format!("no TLS: {error}")))?;
    if check == Check::Nothing {
        let verifier = Unchecked { inner: None, provider };
        return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth());
    }
    let roots = Arc::new(roots(file)?);
    if check == Check::Full {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
    let inner = inner.map_err(|error| refused(format!("no TLS: {error}")))?;
    let verifier = Unchecked { inner: Some(inner), provider };
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn roots(file: Option<&str>) -> Result<RootCertStore, StoreError> {
    let mut roots = RootCertStore::empty();
    let certificates: Vec<CertificateDer<'static>> = match file.filter(|file| *file != "system") {
        Some(file) => CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|error| refused(format!("sslrootcert={file} cannot be read: {error}")))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(refused("there is no authority to check the server's certificate by; name one with sslrootcert=…"));
    }
    Ok(roots)
}

fn refused(why: impl Into<String>) -> StoreError {
    StoreError::Refused(why.into())
}

/// Does not look at the host's name, nor, without `inner`, at the certificate's authority. The handshake is checked.
#[derive(Debug)]
struct Unchecked {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_its_mode_and_its_certificate_and_keeps_the_rest() {
        let (url, ours) = split("postgres://a@b/c?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fa%20b.pem");
        assert_eq!(url, "postgres://a@b/c?connect_timeout=3");
        assert_eq!(ours, [("sslmode", "verify-full".to_owned()), ("sslrootcert", "/a b.pem".to_owned())]);
    }

    #[test]
    fn an_unknown_mode_and_a_missing_certificate_are_refused() {
        for url in ["postgres://a@b/c?sslmode=sure", "postgres://a@b/c?sslmode=verify-ca&sslrootcert=/none"] {
            assert!(matches!(read(url), Err(StoreError::Refused(_))), "{url}");
        }
    }
}
