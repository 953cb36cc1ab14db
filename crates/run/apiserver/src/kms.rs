//! The seeds of a key management service: one for all values until the service's key changes, and those of
//! older values as they are met (apiserver: pkg/server/options/encryptionconfig, v1.37).
//!
//! The store asks in the middle of its work and waits for the answer, so the service is called by a thread of
//! its own. The last good seed stays in use while the service is away; the health of the server tells.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use plimsoll_encryption::kms::{SEED, Seed, Seeds, Service, Source, check_key_id};
use plimsoll_kms::{Client, v2};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How often a service is asked how it is, and how often while it is not well.
const WELL: Duration = Duration::from_secs(60);
const UNWELL: Duration = Duration::from_secs(3);
/// Who asks for the server's health gets the service asked, too, but not more often than this.
const SELDOM: Duration = Duration::from_secs(1);
/// How often a first seed is tried for: services come up in their own time.
const PATIENCE: u32 = 10;

/// A service and what is known of its seeds.
#[derive(Debug)]
pub(crate) struct Kms {
    pub(crate) service: Service,
    current: RwLock<Arc<(Source, Seed)>>,
    older: Mutex<HashMap<Source, Seed>>,
    health: RwLock<Result<(), String>>,
    asked: UnboundedSender<Question>,
}

enum Question {
    /// The seed of a source, and where it goes.
    Seed(Source, Sender<Result<Seed, String>>),
    /// How the service is.
    Health,
}

impl Kms {
    /// Asks the service for a first seed and follows it from then on.
    pub(crate) fn start(service: &Service) -> Result<Arc<Self>, String> {
        let (started, ready) = channel();
        let owned = service.clone();
        let thread = std::thread::Builder::new().name(format!("kms {}", service.name));
        let spawned =
            thread.spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(serve(owned, started)),
                Err(error) => drop(started.send(Err(error.to_string()))),
            });
        spawned.map_err(|error| error.to_string())?;
        answer(&ready)
    }

    /// Why the service was not well when it was last asked; it is asked again.
    pub(crate) fn health(&self) -> Result<(), String> {
        // When the thread is gone, so is the server.
        let _ = self.asked.send(Question::Health);
        self.health.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks how the service is, and gets another seed when its key has changed.
    async fn look(&self, client: &Client) -> Result<(), String> {
        let key_id = status(client, &self.service.name).await?;
        if key_id == self.current().0.key_id {
            return Ok(());
        }
        let fresh = Arc::new(seed(client).await?);
        tracing::info!(provider = self.service.name, "values are encrypted with another key from now on");
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, fresh);
        drop(current);
        self.remember(before.0.clone(), before.1.clone());
        Ok(())
    }

    fn remember(&self, source: Source, seed: Seed) {
        self.older.lock().unwrap_or_else(PoisonError::into_inner).insert(source, seed);
    }
}

impl Seeds for Kms {
    fn current(&self) -> Arc<(Source, Seed)> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn open(&self, source: &Source) -> Result<Seed, String> {
        let known = self.older.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned();
        if let Some(seed) = known {
            return Ok(seed);
        }
        let (sender, receiver) = channel();
        let gone = || "the service is not followed any more".to_owned();
        self.asked.send(Question::Seed(source.clone(), sender)).map_err(|_| gone())?;
        let seed = answer(&receiver).map_err(|error| format!("failed to decrypt DEK, error: {error}"))?;
        self.remember(source.clone(), seed.clone());
        Ok(seed)
    }
}

fn answer<T>(receiver: &Receiver<Result<T, String>>) -> Result<T, String> {
    receiver.recv().unwrap_or_else(|_| Err("the service is not followed any more".to_owned()))
}

/// The thread's work: a first seed, then questions and looks until nobody has the service any more.
async fn serve(service: Service, started: Sender<Result<Arc<Kms>, String>>) {
    let client = Client::new(&service.socket, service.timeout);
    let first = match first(&client, &service.name).await {
        Ok(first) => first,
        Err(error) => return drop(started.send(Err(error))),
    };
    let (asked, mut questions) = unbounded_channel();
    let kms = Arc::new(Kms {
        service,
        current: RwLock::new(Arc::new(first)),
        older: Mutex::default(),
        health: RwLock::new(Ok(())),
        asked,
    });
    let weak = Arc::downgrade(&kms);
    if started.send(Ok(kms)).is_err() {
        return;
    }
    let (mut pause, mut last) = (WELL, Instant::now());
    loop {
        match tokio::time::timeout(pause, answer_all(&client, &mut questions)).await {
            Ok(ControlFlow::Break(())) => return,
            Ok(ControlFlow::Continue(())) if last.elapsed() < SELDOM => continue,
            Ok(ControlFlow::Continue(())) | Err(_) => last = Instant::now(),
        }
        let Some(kms) = weak.upgrade() else { return };
        let outcome = kms.look(&client).await;
        pause = if outcome.is_ok() { WELL } else { UNWELL };
        if let Err(error) = &outcome {
            tracing::error!(provider = kms.service.name, error, "the key management service is not well");
        }
        *kms.health.write().unwrap_or_else(PoisonError::into_inner) = outcome;
    }
}

/// Answers until the service's health is asked for, or nobody can ask any more.
async fn answer_all(client: &Client, questions: &mut UnboundedReceiver<Question>) -> ControlFlow<()> {
    while let Some(question) = questions.recv().await {
        let Question::Seed(source, sender) = question else { return ControlFlow::Continue(()) };
        let request = v2::DecryptRequest {
            ciphertext: source.encrypted,
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: source.key_id,
            annotations: source.annotations,
        };
        let client = client.clone();
        tokio::spawn(async move {
            let seed = client.decrypt(request).await.map(Seed).map_err(|error| error.to_string());
            // Who does not wait any more does not need it.
            let _ = sender.send(seed);
        });
    }
    ControlFlow::Break(())
}

/// The first seed.
async fn first(client: &Client, name: &str) -> Result<(Source, Seed), String> {
    let mut attempt = 1;
    loop {
        let made = match status(client, name).await {
            Ok(_) => seed(client).await,
            Err(error) => Err(error),
        };
        match made {
            Err(error) if attempt < PATIENCE => {
                tracing::warn!(provider = name, error, "waiting for the key management service");
                attempt += 1;
                tokio::time::sleep(UNWELL).await;
            }
            made => return made,
        }
    }
}

/// The name of the service's key, if all is well with it.
async fn status(client: &Client, name: &str) -> Result<String, String> {
    let found = client
        .status()
        .await
        .map_err(|error| format!("kmsv2 Provider {name} is not healthy, error: {error}"))?;
    let mut errors = Vec::new();
    if found.healthz != "ok" {
        errors.push(format!("got unexpected healthz status: {}", found.healthz));
    }
    if found.version != "v2" && found.version != "v2beta1" {
        errors.push(format!("expected KMSv2 API version v2, got {}", found.version));
    }
    if check_key_id(&found.key_id).is_err() {
        errors.push(format!("expected KMSv2 KeyID to be set, got {}", found.key_id));
    }
    match &errors[..] {
        [] => Ok(found.key_id),
        [one] => Err(format!("kmsv2 Provider {name} is not healthy, error: {one}")),
        all => Err(format!("kmsv2 Provider {name} is not healthy, error: [{}]", all.join(", "))),
    }
}

/// A new seed, encrypted by the service.
async fn seed(client: &Client) -> Result<(Source, Seed), String> {
    let mut bytes = vec![0; SEED];
    rand::fill(&mut bytes[..]);
    let made = client.encrypt(bytes.clone(), uuid::Uuid::new_v4().to_string()).await;
    let made = made.map_err(|error| format!("failed to encrypt DEK, error: {error}"))?;
    let source = Source { key_id: made.key_id, encrypted: made.ciphertext, annotations: made.annotations };
    source.check()?;
    Ok((source, Seed(bytes)))
}
