//! What a sink is.

use crate::http::{parse_url, told_url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// The kinds of sinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkKind {
    /// A directory that another service ships from.
    #[default]
    Directory,
    /// A server that takes files by HTTP `PUT`, such as WebDAV.
    Http,
    /// A store that speaks S3.
    S3,
}

impl SinkKind {
    /// As it stands in settings and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Http => "http",
            Self::S3 => "s3",
        }
    }
}

/// A sink for archived snapshots. Secrets stand in files of their own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// Its name, of `a-z`, `0-9`, `-`; the queue on disk has it, too.
    pub name: String,
    /// Its kind.
    pub kind: SinkKind,
    /// The directory.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// http: where files are put below, `https://store.site/dav/netdiag`. s3: the store, `https://s3.site:9000`; absent: Amazon's.
    #[serde(default)]
    pub url: Option<String>,
    /// http: a file with a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// http: the user.
    #[serde(default)]
    pub username: Option<String>,
    /// http: a file with the user's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// s3: the bucket.
    #[serde(default)]
    pub bucket: Option<String>,
    /// s3: its region; absent: `us-east-1`, which stores on site do not mind.
    #[serde(default)]
    pub region: Option<String>,
    /// s3: what the name of each object begins with, a folder as it were.
    #[serde(default)]
    pub prefix: String,
    /// s3: a file with `aws_access_key_id = …` and `aws_secret_access_key = …`; absent: from the environment.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// A file (PEM) with the authorities that have signed the server's certificate, if the host does not know them.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The most bytes that wait in the queue, the oldest go first; and that lie in the directory.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
    /// directory: the disk room there that is never used.
    #[serde(default = "min_free_bytes")]
    pub min_free_bytes: u64,
}

const fn max_bytes() -> u64 {
    2 << 30
}

const fn min_free_bytes() -> u64 {
    1 << 30
}

impl Default for SinkSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: SinkKind::Directory,
            path: None,
            url: None,
            token_file: None,
            username: None,
            password_file: None,
            bucket: None,
            region: None,
            prefix: String::new(),
            credentials_file: None,
            ca_file: None,
            max_bytes: max_bytes(),
            min_free_bytes: min_free_bytes(),
        }
    }
}

impl SinkSettings {
    /// What cannot be: the setting, and what would be right.
    ///
    /// # Errors
    /// In words, without secrets.
    pub fn validate(&self) -> Result<(), String> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let has_name = !self.name.is_empty() && self.name.len() <= 32 && self.name.bytes().all(is_name);
        require(has_name, "`name` must be 1 to 32 of `a-z`, `0-9` and `-`")?;
        self.has_what_its_kind_needs()?;
        require(self.url.as_deref().is_none_or(|url| parse_url(url).is_some()), "`url` must be one of http or https")?;
        let has_user =
            self.url.as_deref().and_then(parse_url).is_some_and(|url| !url.username().is_empty() || url.password().is_some());
        require(!has_user, "`url` must hold no user or password; they have settings of their own")?;
        require(self.username.is_some() == self.password_file.is_some(), "`username` and `password_file` go together")?;
        require(self.token_file.is_none() || self.username.is_none(), "there may be `token_file` or `username`, not both")?;
        require(self.max_bytes >= 1 << 16, "`max_bytes` must be 65536 or more")
    }

    fn has_what_its_kind_needs(&self) -> Result<(), String> {
        use SinkKind::{Directory, Http, S3};
        let given: [(&str, bool, &[SinkKind]); 8] = [
            ("path", self.path.is_some(), &[Directory]),
            ("url", self.url.is_some(), &[Http, S3]),
            ("token_file", self.token_file.is_some(), &[Http]),
            ("username", self.username.is_some(), &[Http]),
            ("bucket", self.bucket.is_some(), &[S3]),
            ("region", self.region.is_some(), &[S3]),
            ("prefix", !self.prefix.is_empty(), &[S3]),
            ("credentials_file", self.credentials_file.is_some(), &[S3]),
        ];
        for (name, is_given, kinds) in given {
            require(
                !is_given || kinds.contains(&self.kind),
                &format!("`{name}` means nothing for the kind `{}`", self.kind.as_str()),
            )?;
        }
        match self.kind {
            Directory => require(self.path.as_ref().is_some_and(|path| path.is_absolute()), "`path` must be an absolute path"),
            Http => require(self.url.is_some(), "`url` is missing: where files are put below"),
            S3 => require(self.bucket.as_ref().is_some_and(|bucket| !bucket.is_empty()), "`bucket` is missing"),
        }
    }

    /// Where it leads, as it may be told.
    pub fn told_place(&self) -> String {
        let url = || self.url.as_deref().map(told_url);
        match self.kind {
            SinkKind::Directory => self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            SinkKind::Http => url().unwrap_or_default(),
            SinkKind::S3 => {
                let bucket = self.bucket.clone().unwrap_or_default();
                format!("s3://{bucket}/{}{}", self.prefix, url().map(|url| format!(" at {url}")).unwrap_or_default())
            }
        }
    }
}

fn require(holds: bool, right: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(right.to_owned()) }
}

impl fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sink {} ({} {})", self.name, self.kind.as_str(), self.told_place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str) -> Result<(), String> {
        toml::from_str::<SinkSettings>(toml).map_err(|error| error.to_string())?.validate()
    }

    #[test]
    fn each_kind_has_what_it_needs_and_nothing_else() {
        check("name = \"spool\"\nkind = \"directory\"\npath = \"/var/spool/netdiag\"").unwrap();
        check("name = \"dav\"\nkind = \"http\"\nurl = \"https://store.site/dav\"\nusername = \"u\"\npassword_file = \"/p\"")
            .unwrap();
        check("name = \"store-1\"\nkind = \"s3\"\nbucket = \"b\"\nurl = \"http://s3.site:9000\"\nprefix = \"north\"").unwrap();
        for (wrong, named) in [
            ("name = \"Spool\"\nkind = \"directory\"\npath = \"/a\"", "name"),
            ("name = \"a/b\"\nkind = \"directory\"\npath = \"/a\"", "name"),
            ("name = \"spool\"\nkind = \"directory\"", "path"),
            ("name = \"spool\"\nkind = \"directory\"\npath = \"a\"", "path"),
            ("name = \"spool\"\nkind = \"directory\"\npath = \"/a\"\nbucket = \"b\"", "bucket"),
            ("name = \"dav\"\nkind = \"http\"", "url"),
            ("name = \"dav\"\nkind = \"http\"\nurl = \"ftp://a\"", "url"),
            ("name = \"dav\"\nkind = \"http\"\nurl = \"http://u:p@a\"", "url"),
            ("name = \"dav\"\nkind = \"http\"\nurl = \"http://a\"\nusername = \"u\"", "password_file"),
            ("name = \"s\"\nkind = \"s3\"", "bucket"),
            ("name = \"s\"\nkind = \"s3\"\nbucket = \"b\"\nmax_bytes = 1", "max_bytes"),
            ("name = \"s\"\nkind = \"s3\"\nbucket = \"b\"\nsecret = \"x\"", "secret"),
        ] {
            let error = check(wrong).unwrap_err();
            assert!(error.contains(named), "{wrong}: {error}");
        }
    }

    #[test]
    fn no_secret_is_told() {
        let settings = SinkSettings {
            kind: SinkKind::Http,
            url: Some("http://u:hunter2@a/b?token=hunter2".into()),
            ..SinkSettings::default()
        };
        assert!(!format!("{settings:?} {:?}", settings.validate()).contains("hunter2"));
    }
}
