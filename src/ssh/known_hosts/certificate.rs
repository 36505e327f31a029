//! Host certificates: keys that an authority vouches for (`@cert-authority` in known_hosts).

use super::{Entry, HostKeyVerdict, KnownHosts, Marker, glob};
use russh::keys::Certificate;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::{HashAlg, PublicKey, public::KeyData};

impl KnownHosts {
    /// True when an authority may vouch for a host that is known under any of `names`.
    pub fn has_authority(&self, names: &[String]) -> bool {
        self.here(names).iter().any(|entry| entry.marker == Marker::CertAuthority)
    }

    /// Judges a certificate, presented by a host that is known under any of `names`, at a time in
    /// seconds since the epoch. One of an authority that is not known here counts as the plain key
    /// in it.
    ///
    /// # Errors
    /// A text with the line number, when a line for this host cannot be read.
    pub fn judge_certificate(
        &self,
        names: &[String],
        certificate: &Certificate,
        now: u64,
    ) -> Result<HostKeyVerdict, String> {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let plain = self.judge(names, &key)?;
        let authority = certificate.signature_key();
        let entries = self.here(names);
        let here =
            |marker| entries.iter().find(|entry| entry.marker == marker && is(entry, authority));
        if let HostKeyVerdict::Revoked { .. } = plain {
            return Ok(plain);
        }
        if let Some(entry) = here(Marker::Revoked) {
            return Ok(HostKeyVerdict::Revoked { line: entry.line });
        }
        if here(Marker::CertAuthority).is_none() {
            return Ok(plain);
        }
        Ok(match fault(names, certificate, now) {
            None => HostKeyVerdict::Trusted,
            Some(reason) => HostKeyVerdict::BadCertificate { reason },
        })
    }
}

fn is(entry: &Entry, key: &KeyData) -> bool {
    entry.key.as_ref().is_ok_and(|known| known.key_data() == key)
}

/// What keeps a certificate of a trusted authority from vouching for a host.
fn fault(names: &[String], certificate: &Certificate, now: u64) -> Option<String> {
    if certificate.cert_type() != CertType::Host {
        return Some("it is a certificate for logins, not for hosts".into());
    }
    if now < certificate.valid_after() {
        return Some("it is not valid yet; compare the clocks".into());
    }
    if now >= certificate.valid_before() {
        return Some(match jiff_text(certificate.valid_before()) {
            Some(when) => format!("it expired at {when}"),
            None => "it expired".into(),
        });
    }
    let principals = certificate.valid_principals();
    if !names.iter().any(|name| principals.iter().any(|p| is_principal(p, name))) {
        let listed = if principals.is_empty() { "none".into() } else { principals.join(", ") };
        return Some(format!("it is for other hosts ({listed})"));
    }
    if let Some((option, _)) = certificate.critical_options().iter().next() {
        return Some(format!("it has the critical option {option}, which is not known"));
    }
    let fingerprint = certificate.signature_key().fingerprint(HashAlg::Sha256);
    certificate
        .validate_at(now, std::iter::once(&fingerprint))
        .err()
        .map(|_| "its signature is wrong".into())
}

/// Principals are names without a port.
fn is_principal(principal: &str, name: &str) -> bool {
    let bare = match name.strip_prefix('[').and_then(|name| name.split_once(']')) {
        Some((bare, _)) => bare,
        None => name,
    };
    let (principal, bare) = (principal.to_ascii_lowercase(), bare.to_ascii_lowercase());
    glob(principal.as_bytes(), bare.as_bytes())
}

pub(in crate::ssh) fn jiff_text(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    jiff::Timestamp::from_second(seconds).ok().map(|when| when.to_string())
}

#[cfg(test)]
mod tests {
    use super::is_principal;

    #[test]
    fn principals_are_names_without_ports_and_may_be_patterns() {
        assert!(is_principal("redis-01", "[redis-01]:2222"));
        assert!(is_principal("10.0.0.123", "10.0.0.123"));
        assert!(is_principal("*.example.org", "DB.example.org"));
        assert!(!is_principal("redis-01", "redis-011"));
        assert!(!is_principal("", "redis-01"));
    }
}
