//! A container of Azure Blob Storage. Credentials are found as Azure's own tools find them: account key, SAS, service principal,
//! workload or managed identity, all by the environment (`AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, …).

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::azure::MicrosoftAzureBuilder;

use super::{BucketOptions, client_options, retry, unopened};
use crate::port::StoreError;

pub(super) fn build(
    builder: MicrosoftAzureBuilder,
    options: &BucketOptions,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = builder
        .with_container_name(&options.bucket)
        .with_client_options(client_options(options))
        .with_retry(retry());
    if let Some(account) = &options.account {
        builder = builder.with_account(account);
    }
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let store = builder.with_allow_http(options.allow_http).build();
    Ok(Arc::new(store.map_err(|source| unopened(options, source.into()))?))
}
