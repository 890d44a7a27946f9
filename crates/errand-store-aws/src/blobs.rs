//! Content-addressed objects in the bucket: `blobs/HASH`, written once. What shrinks is kept compressed, and says so in its
//! metadata.

use crate::error::sorted;
use crate::{Aws, Error, packed};
use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumAlgorithm;
use errand_core::Hash;
use errand_engine::ports::{Blobs, PortError, Signer};
use std::time::Duration;

/// Shorter ones cost the same either way.
const PACKED_MIN: usize = 4 << 10;
/// Longer ones are asked after before they are sent a second time.
const ASK_FIRST: usize = 256 << 10;
/// Metadata that tells the form of an object; none means as it was put.
const FORM: &str = "errand-form";
const LZ4: &str = "lz4";
/// The longest that a link can work: a week (S3, signature version 4, checked 2026-11-21).
const LINK_MAX: Duration = Duration::from_secs(604_800);

/// The blobs of a bucket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AwsBlobs {
    aws: Aws,
}

impl AwsBlobs {
    pub(crate) fn new(aws: Aws) -> Self {
        Self { aws }
    }

    pub(crate) fn bucket(&self) -> &str {
        &self.aws.settings.bucket
    }

    /// Like [`Blobs::put`].
    pub(crate) async fn put_bytes(&self, bytes: &[u8]) -> Result<Hash, Error> {
        let hash = Hash::of(bytes);
        let key = key(&hash);
        if bytes.len() > ASK_FIRST && self.has(&key).await? {
            return Ok(hash);
        }
        match Some(bytes).filter(|bytes| bytes.len() >= PACKED_MIN).and_then(packed::pack) {
            Some(packed) => self.write(&key, packed, Some(LZ4)).await?,
            None => self.write(&key, bytes.to_vec(), None).await?,
        }
        Ok(hash)
    }

    /// Writes an object unless it is there: what lies under a digest never changes.
    async fn write(&self, key: &str, bytes: Vec<u8>, form: Option<&str>) -> Result<(), Error> {
        let put = self.aws.s3.put_object().bucket(self.bucket()).key(key).if_none_match("*");
        // S3 compares the digest with what arrived.
        let put = put.checksum_algorithm(ChecksumAlgorithm::Sha256);
        let put = form.into_iter().fold(put, |put, form| put.metadata(FORM, form));
        match put.body(ByteStream::from(bytes)).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 412) => Ok(()),
            Err(error) => Err(sorted(self.aws.at_bucket("s3:PutObject"), &error)),
        }
    }

    async fn has(&self, key: &str) -> Result<bool, Error> {
        match self.aws.s3.head_object().bucket(self.bucket()).key(key).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found()) => Ok(false),
            Err(error) => Err(sorted(self.aws.at_bucket("s3:GetObject"), &error)),
        }
    }

    /// Like [`Blobs::get`].
    pub(crate) async fn get_bytes(&self, hash: &Hash) -> Result<Option<Vec<u8>>, Error> {
        let Some((bytes, form)) = self.read(&key(hash)).await? else { return Ok(None) };
        let bytes = match form.as_deref() {
            None => Some(bytes),
            Some(LZ4) => packed::unpack(&bytes),
            Some(other) => {
                let what = format!("the form `{other}` of blob {hash}");
                return Err(Error::Unreadable { what, reason: "it is not known: use a newer errand".to_owned() });
            }
        };
        match bytes {
            Some(bytes) if Hash::of(&bytes) == *hash => Ok(Some(bytes)),
            _ => Err(Error::BlobDamaged { hash: *hash, bucket: self.bucket().to_owned() }),
        }
    }

    async fn read(&self, key: &str) -> Result<Option<(Vec<u8>, Option<String>)>, Error> {
        let action = "s3:GetObject";
        let mut got = match self.aws.s3.get_object().bucket(self.bucket()).key(key).send().await {
            Ok(got) => got,
            Err(error) if matches!(error.as_service_error(), Some(GetObjectError::NoSuchKey(_))) => return Ok(None),
            Err(error) => return Err(sorted(self.aws.at_bucket(action), &error)),
        };
        let form = got.metadata.take().and_then(|mut metadata| metadata.remove(FORM));
        let body = got.body.collect().await.map_err(|error| Error::Unavailable {
            action: action.to_owned(),
            resource: self.bucket().to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some((body.to_vec(), form)))
    }

    /// The key of an object that holds the bytes as they were put: what a link leads to is fetched without us.
    async fn plain(&self, hash: &Hash) -> Result<String, Error> {
        let asked = self.aws.s3.head_object().bucket(self.bucket()).key(key(hash)).send().await;
        let head = asked.map_err(|error| match error.as_service_error() {
            Some(error) if error.is_not_found() => self.gone(hash),
            _ => sorted(self.aws.at_bucket("s3:GetObject"), &error),
        })?;
        if head.metadata.is_none_or(|metadata| !metadata.contains_key(FORM)) {
            return Ok(key(hash));
        }
        let copy = format!("plain/{hash}");
        if !self.has(&copy).await? {
            let bytes = self.get_bytes(hash).await?.ok_or_else(|| self.gone(hash))?;
            self.write(&copy, bytes, None).await?;
        }
        Ok(copy)
    }

    fn gone(&self, hash: &Hash) -> Error {
        Error::BlobGone { hash: *hash, what: "a link".to_owned(), bucket: self.bucket().to_owned() }
    }
}

fn key(hash: &Hash) -> String {
    format!("blobs/{hash}")
}

#[async_trait]
impl Blobs for AwsBlobs {
    async fn put(&self, bytes: &[u8]) -> Result<Hash, PortError> {
        Ok(self.put_bytes(bytes).await?)
    }

    async fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, PortError> {
        Ok(self.get_bytes(hash).await?)
    }

    fn signer(&self) -> Option<&dyn Signer> {
        Some(self)
    }
}

/// Links are signed here, without asking S3; they work for a week at most, and no longer than the credentials.
#[async_trait]
impl Signer for AwsBlobs {
    async fn link(&self, hash: &Hash, valid: Duration) -> Result<String, PortError> {
        let key = self.plain(hash).await?;
        let valid = valid.clamp(Duration::from_secs(1), LINK_MAX);
        let unfit = |error: aws_sdk_s3::presigning::PresigningConfigError| Error::Unfit {
            what: "the time a link works".to_owned(),
            reason: error.to_string(),
        };
        let config = PresigningConfig::expires_in(valid).map_err(unfit)?;
        let signed = self.aws.s3.get_object().bucket(self.bucket()).key(key).presigned(config).await;
        let signed = signed.map_err(|error| sorted(self.aws.at_bucket("s3:GetObject"), &error))?;
        Ok(signed.uri().to_owned())
    }
}
