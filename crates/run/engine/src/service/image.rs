//! The image service.

use std::collections::BTreeSet;
use std::sync::Arc;

use plimsoll_cri::v1::image_service_server::ImageService;
use plimsoll_cri::v1::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image, ImageFsInfoRequest, ImageFsInfoResponse,
    ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse,
};
use tonic::{Request, Response, Status};

use crate::clock;
use crate::engine::{Engine, blocking};
use crate::error::Error;
use crate::images::{Credentials, ImageFacts};
use crate::stats;

#[tonic::async_trait]
impl ImageService for Engine {
    async fn list_images(
        &self,
        request: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let wanted = request.into_inner().filter.and_then(|filter| filter.image).map(|image| image.image);
        let images = match wanted.filter(|name| !name.is_empty()) {
            Some(name) => self.shared.config.images.find(&name).into_iter().collect(),
            None => self.shared.config.images.list(),
        };
        Ok(Response::new(ListImagesResponse { images: images.iter().map(|image| describe(image)).collect() }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Result<Response<ImageStatusResponse>, Status> {
        let name = named(request.into_inner().image)?;
        // An image that is not there is an empty answer, not an error (CRI).
        let image = self.shared.config.images.find(&name).map(|image| describe(&image));
        Ok(Response::new(ImageStatusResponse { image, info: Default::default() }))
    }

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<PullImageResponse>, Status> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let credentials = credentials(request.auth)?;
        let image_ref = self.shared.config.images.pull(&name, credentials).await.map_err(Error::from)?;
        Ok(Response::new(PullImageResponse { image_ref }))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let name = named(request.into_inner().image)?;
        let containers = self.shared.pods.containers();
        let used: BTreeSet<String> =
            containers.iter().map(|container| container.record().image_id.clone()).collect();
        let in_use = Arc::new(move |id: &str| used.contains(id));
        self.shared.config.images.remove(&name, in_use).await.map_err(Error::from)?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<ImageFsInfoRequest>,
    ) -> Result<Response<ImageFsInfoResponse>, Status> {
        let images = &self.shared.config.images;
        let usage = images.usage().await;
        let image_filesystem = FilesystemUsage {
            timestamp: clock::now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: images.folder().to_string_lossy().into_owned() }),
            used_bytes: stats::value(usage.bytes),
            inodes_used: stats::value(usage.inodes),
        };
        let folder = self.shared.layout.sandboxes();
        let containers = blocking(move || Ok(stats::containers_usage(&folder, clock::now()))).await?;
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![image_filesystem],
            container_filesystems: vec![containers],
        }))
    }
}

fn named(image: Option<ImageSpec>) -> Result<String, Status> {
    let name = image.map(|image| image.image).unwrap_or_default();
    if name.is_empty() { Err(Status::invalid_argument("the request names no image")) } else { Ok(name) }
}

fn describe(image: &ImageFacts) -> Image {
    let user = image.config.user().clone().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    Image {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid: uid.map(|value| Int64Value { value }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() }),
        pinned: image.pinned,
    }
}

fn credentials(auth: Option<AuthConfig>) -> Result<Credentials, Status> {
    let Some(auth) = auth else { return Ok(Credentials::Anonymous) };
    if !auth.registry_token.is_empty() {
        return Ok(Credentials::RegistryToken(auth.registry_token));
    }
    if !auth.identity_token.is_empty() {
        return Ok(Credentials::IdentityToken(auth.identity_token));
    }
    if !auth.username.is_empty() {
        return Ok(Credentials::Password { user: auth.username, password: auth.password });
    }
    if auth.auth.is_empty() {
        return Ok(Credentials::Anonymous);
    }
    // The two joined by a colon, in base64.
    let bad = || Status::invalid_argument("the credentials cannot be decoded");
    let text =
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &auth.auth).map_err(|_| bad())?;
    let text = String::from_utf8(text).map_err(|_| bad())?;
    let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(bad)?;
    Ok(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
}
