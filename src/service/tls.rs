//! The cryptography of TLS connections.

/// Makes *ring* the cryptography of all TLS connections of this process. May be called again and again.
pub(crate) fn install_crypto() {
    // The first one stays; it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
