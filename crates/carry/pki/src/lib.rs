//! Keys, certificates and service account tokens.
//!
//! What enters: a directory and the names that certificates must carry. What leaves: files of PEM
//! with mode 0600, made once and adopted afterwards, and signed or checked tokens. Who may do
//! what with them is not decided here.

mod authority;
mod files;
mod kubeconfig;
mod subject;
mod token;

pub use authority::{Authority, CertifiedFiles, Purpose, Request};
pub use files::{PkiError, write_private};
pub use kubeconfig::kubeconfig;
pub use subject::{Subject, subject};
pub use token::{Claims, TokenError, Tokens};
