//! Keys, certificates and service account tokens.
//!
//! What enters: a directory and the names that certificates must carry. What leaves: files of PEM
//! with mode 0600, made once and adopted afterwards, signed or checked tokens, and certificates that
//! answer requests. Who may do what with them is not decided here.

mod authority;
mod certificate;
mod certificate_request;
mod der;
mod files;
mod jwt;
mod key_request;
mod kubeconfig;
mod pod_key;
mod public_key;
mod subject;
mod token;

pub use authority::{Authority, CertifiedFiles, Purpose, Request};
pub use certificate_request::{Requested, Terms, not_after, requested};
pub use files::{PkiError, write_private};
pub use jwt::Jwt;
pub use key_request::{Subscriber, new_private_key, validity};
pub use kubeconfig::kubeconfig;
pub use pod_key::PodKey;
pub use public_key::PublicKey;
pub use subject::{Subject, subject};
pub use token::Tokens;
