//! AppArmor profiles that containers need: the engine's own is loaded when the first one asks for it, others
//! have to be there.

use std::sync::{Mutex, PoisonError};

use plimsoll_kernel::apparmor;

use crate::error::{Error, Result};
use crate::spec::apparmor::{Ability, OWN, text};

/// What this engine has loaded.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// Whether its own is loaded; the lock makes others wait until it is.
    own: Mutex<bool>,
}

impl Profiles {
    /// Sees to it that the kernel knows a profile.
    pub(crate) fn provide(&self, name: &str) -> Result<()> {
        let listed = || apparmor::loaded(name).map_err(|error| failed(name, &error));
        if name != OWN {
            return match listed()? {
                true => Ok(()),
                false => Err(Error::Invalid(format!("apparmor profile not found {name}"))),
            };
        }
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have unloaded it meanwhile.
        if !*own || !listed()? {
            apparmor::load(&text(&apparmor::own_label())).map_err(|error| failed(name, &error))?;
            *own = true;
        }
        Ok(())
    }
}

fn failed(name: &str, error: &std::io::Error) -> Error {
    Error::State(format!("apparmor profile {name}: {error}"))
}

/// What this machine can do.
pub(crate) fn ability() -> Ability {
    match (apparmor::enabled(), apparmor::parser()) {
        (false, _) => Ability::None,
        (true, None) => Ability::Named,
        (true, Some(_)) => Ability::Own,
    }
}
