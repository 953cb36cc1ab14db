//! Objects in the version that a judge wants to see, and changed objects back in their own.

use std::borrow::Cow;

use plimsoll_admission::matching::Target;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::subject::{Subject, target};
use crate::custom;
use crate::decode::{self, Expected, FieldValidation};
use crate::shape::Shape;
use plimsoll_document::Duplicates;

/// How one judge sees the objects of a request.
pub(crate) struct Seen {
    /// The row in the judge's version.
    kind: &'static Kind,
    /// Resource and kind in that version.
    pub(crate) target: Target<'static>,
    own: &'static Kind,
}

impl Seen {
    /// The version that matching chose.
    pub(crate) fn new(subject: &Subject<'_>, chosen: &Target<'_>) -> Result<Self, Status> {
        let wanted = chosen.resource;
        let own = subject.kind;
        let kind = match wanted == subject.target.resource {
            true => own,
            false => {
                let found = plimsoll_catalogue::find(wanted.group, wanted.version, wanted.resource);
                found
                    .or_else(|| subject.api.customs.find(wanted.group, wanted.version, wanted.resource))
                    .ok_or_else(|| {
                        Status::internal(format!(
                            "unable to convert to {}/{}, Resource={}: unknown kind",
                            wanted.group, wanted.version, wanted.resource
                        ))
                    })?
            }
        };
        Ok(Self { kind, target: target(kind, subject.subresource), own })
    }

    /// An object of the request as the judge sees it.
    pub(crate) async fn show<'v>(
        &self,
        subject: &Subject<'_>,
        object: &'v Value,
    ) -> Result<Cow<'v, Value>, Status> {
        if self.target.kind == subject.target.kind {
            return Ok(Cow::Borrowed(object));
        }
        converted(subject, self.own, self.kind, object.clone()).await.map(Cow::Owned)
    }

    /// [`Seen::show`] of a state that there may not be.
    pub(crate) async fn show_present<'v>(
        &self,
        subject: &Subject<'_>,
        object: Option<&'v Value>,
    ) -> Result<Option<Cow<'v, Value>>, Status> {
        match object {
            Some(object) => self.show(subject, object).await.map(Some),
            None => Ok(None),
        }
    }

    /// A changed object, held against its kind and with its defaults.
    ///
    /// # Errors
    /// The 500 that upstream answers when a webhook makes of an object what cannot be one.
    pub(crate) fn settle(&self, subject: &Subject<'_>, mut object: Value) -> Result<Value, Status> {
        if let Some(shape) = self.own_shape(subject)? {
            let api_version = self.target.kind.api_version();
            let expected = Expected { api_version: &api_version, kind: self.target.kind.kind, shape: &shape };
            decode::check(
                expected,
                FieldValidation::Ignore,
                Duplicates::default(),
                &mut object,
                &mut Vec::new(),
            )
            .map_err(|status| Status::internal(status.message))?;
        }
        if self.is_whole() {
            Shape::of(subject.api, self.kind)?.default(self.kind, &mut object);
        }
        Ok(object)
    }

    /// An object as the judge sees it in the version of the request.
    pub(crate) async fn back(&self, subject: &Subject<'_>, object: Value) -> Result<Value, Status> {
        if self.target.kind == subject.target.kind {
            return Ok(object);
        }
        converted(subject, self.kind, self.own, object).await
    }

    /// The body is the object itself, not one of another type that stands for it.
    fn is_whole(&self) -> bool {
        self.target.kind.kind == self.kind.kind && self.target.kind.group == self.kind.group
    }

    /// The type of the body, where there is one.
    pub(crate) fn own_shape(&self, subject: &Subject<'_>) -> Result<Option<Shape>, Status> {
        if self.is_whole() {
            return Shape::of(subject.api, self.kind).map(Some);
        }
        Ok(match self.target.kind.kind {
            "Scale" => Some(Shape::named("io.k8s.api.autoscaling.v1.Scale")?),
            "Binding" => Some(Shape::named("io.k8s.api.core.v1.Binding")?),
            "Eviction" => Some(Shape::named("io.k8s.api.policy.v1.Eviction")?),
            "TokenRequest" => Some(Shape::named("io.k8s.api.authentication.v1.TokenRequest")?),
            _ => None,
        })
    }
}

async fn converted(
    subject: &Subject<'_>,
    from: &'static Kind,
    to: &'static Kind,
    object: Value,
) -> Result<Value, Status> {
    match from.is_custom() {
        true => custom::convert(subject.api, to, object).await,
        false => Ok(plimsoll_catalogue::convert(from, to, object)),
    }
}
