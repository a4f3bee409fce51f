//! A bucket of Google Cloud Storage. Credentials are found as Google's own tools find them: a service account's file
//! (`GOOGLE_SERVICE_ACCOUNT`), application default credentials (`GOOGLE_APPLICATION_CREDENTIALS`), or the metadata server.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::gcp::GoogleCloudStorageBuilder;

use super::{BucketOptions, client_options, retry, unopened};
use crate::port::StoreError;

pub(super) fn build(
    builder: GoogleCloudStorageBuilder,
    options: &BucketOptions,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = builder
        .with_bucket_name(&options.bucket)
        .with_client_options(client_options(options))
        .with_retry(retry());
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let store = builder.build().map_err(|source| unopened(options, source.into()))?;
    Ok(Arc::new(store))
}
