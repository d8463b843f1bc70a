//! Certificates for servers that speak TLS: for tests and chaos alone, which is why they are a feature.

use crate::Failure;

/// A certificate, with what goes with it; all PEM.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// The authority that signed it, and nothing else ever.
    pub authority: String,
}

/// A certificate for these names, signed by an authority of its own.
///
/// # Errors
/// If one of them is no name.
pub fn signed_for(names: &[&str]) -> Result<Signed, Failure> {
    make(names).map_err(|error| format!("no certificate: {error}"))
}

fn make(names: &[&str]) -> Result<Signed, rcgen::Error> {
    let authority_key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::new(Vec::new())?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let signed = authority.self_signed(&authority_key)?;
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate()?;
    let own = rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
    Ok(Signed { cert: own.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem(), authority: signed.pem() })
}
