//! Images, layers, registries and Dockerfile builds.
