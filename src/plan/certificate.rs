//! Certificates for hosts that trust nobody else: made of one seed among the secrets, so that the
//! same seed and name always give the same bytes, and nothing is kept but the seed.
//!
//! Keys are Ed25519, whose signatures have no random part. A certificate has no end (RFC 5280,
//! 4.1.2.5): it counts until the seed is another.

use hmac::{Hmac, KeyInit, Mac};
use minijinja::{Error, ErrorKind};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SerialNumber, date_time_ymd,
};
use sha2::Sha256;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What stands before the 32 bytes of an Ed25519 key in its PKCS #8 form (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The name of the authority; no host can have it.
const AUTHORITY: &str = "strata certificate authority";

/// The certificate of the authority that a seed stands for, as PEM.
///
/// # Errors
/// When no key can be made; never for a seed of the site's secrets.
pub fn authority(seed: String) -> Result<String, Error> {
    let key = key(&seed, AUTHORITY)?;
    let certificate = authority_parameters().self_signed(&key).map_err(failed)?;
    Ok(certificate.pem())
}

/// A host's certificate, for both sides of a connection, as PEM.
///
/// # Errors
/// When the name cannot stand in a certificate.
pub fn certificate(seed: String, name: String) -> Result<String, Error> {
    let issuer = Issuer::new(authority_parameters(), key(&seed, AUTHORITY)?);
    let mut parameters = CertificateParams::new([name.clone()]).map_err(failed)?;
    describe(&mut parameters, &name);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = parameters.signed_by(&key(&seed, &name)?, &issuer).map_err(failed)?;
    Ok(certificate.pem())
}

/// The key of a host's certificate, as PEM (PKCS #8).
///
/// # Errors
/// As [`authority`].
pub fn certificate_key(seed: String, name: String) -> Result<String, Error> {
    Ok(key(&seed, &name)?.serialize_pem())
}

fn authority_parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    describe(&mut parameters, AUTHORITY);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    parameters
}

/// What both kinds have: nothing of it depends on when it is made.
fn describe(parameters: &mut CertificateParams, name: &str) {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    parameters.distinguished_name = names;
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(9999, 12, 31);
    let digest = mac(b"serial number", name);
    parameters.serial_number = Some(SerialNumber::from_slice(&digest[..16]));
}

/// The key that a seed and a name stand for.
fn key(seed: &str, name: &str) -> Result<KeyPair, Error> {
    let secret = mac(seed.as_bytes(), name);
    let bytes = PrivatePkcs8KeyDer::from([&PKCS8[..], &secret[..]].concat());
    KeyPair::from_pkcs8_der_and_sign_algo(&bytes, &PKCS_ED25519).map_err(failed)
}

fn mac(key: &[u8], name: &str) -> [u8; 32] {
    // A key of any length will do, so that there is no error to meet.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    mac.update(b"strata certificate 1 ");
    mac.update(name.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Without the value that it is about: that may be secret.
fn failed(error: rcgen::Error) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("no certificate can be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    };

    const SEED: &str = "SGVsbG8gdGhlcmUsIGdlbmVyYWwgS2Vub2Jp";

    fn seed() -> String {
        SEED.to_owned()
    }

    #[test]
    fn the_same_seed_and_name_give_the_same_bytes_and_others_do_not() {
        let of = |name: &str| certificate(seed(), name.to_owned()).unwrap();
        assert_eq!(of("db-01"), of("db-01"));
        assert_ne!(of("db-01"), of("db-02"));
        assert_eq!(authority(seed()).unwrap(), authority(seed()).unwrap());
        assert_ne!(authority(seed()).unwrap(), authority("another seed".to_owned()).unwrap());
        let key = |name: &str| certificate_key(seed(), name.to_owned()).unwrap();
        assert_ne!(key("db-01"), key("db-02"));
        assert!(key("db-01").starts_with("-----BEGIN PRIVATE KEY-----"));
    }

    fn own(name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = certificate(seed(), name.to_owned()).unwrap();
        let key = certificate_key(seed(), name.to_owned()).unwrap();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        (vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
    }

    fn trusted(seed: &str) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let authority = authority(seed.to_owned()).unwrap();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        Arc::new(roots)
    }

    /// A handshake in which both sides prove who they are; the client trusts `seed`.
    fn handshake(seed: &str, expected: &'static str) -> Result<(), String> {
        let verifier = WebPkiClientVerifier::builder(trusted(SEED)).build().unwrap();
        let (chain, key) = own("db-01");
        let server = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        let (chain, key) = own("backup-01");
        let client = ClientConfig::builder()
            .with_root_certificates(trusted(seed))
            .with_client_auth_cert(chain, key)
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let name = ServerName::try_from(expected).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        for _ in 0..4 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    #[test]
    fn hosts_of_one_seed_trust_each_other_by_name_and_nobody_else() {
        assert_eq!(handshake(SEED, "db-01"), Ok(()));
        assert!(handshake(SEED, "db-02").is_err());
        assert!(handshake("another seed", "db-01").is_err());
    }
}
