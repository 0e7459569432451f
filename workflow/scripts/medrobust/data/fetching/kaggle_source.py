"""Downloading a data set's archive from Kaggle through its client library.

The client does the sign-in and the request; the bytes then flow through
:mod:`medrobust.data.fetching.transfer`, which resumes them. The library under the ``kaggle``
command (``kagglesdk``) is used, because importing ``kaggle`` itself signs in over the network,
prints, and swallows failures. A credential is read here, handed to the client, and never
appears in a message, a log or a file.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrobust import __version__
from medrobust.core.errors import InputError
from medrobust.core.machine import conda_found
from medrobust.data.fetching.transfer import Explain, Opener, TransferSettings, TransientError

if TYPE_CHECKING:
    import requests

    from medrobust.data.registry import DatasetEntry, Source

HOW_TO_SIGN_IN = (
    "make a token at https://www.kaggle.com/settings/api (Generate New Token), then either "
    "save it as ~/.kaggle/access_token (chmod 600) or set KAGGLE_API_TOKEN; a kaggle.json in "
    "~/.kaggle or KAGGLE_USERNAME with KAGGLE_KEY also works"
)


@dataclass(frozen=True)
class Credential:
    """A way to sign in. ``place`` says where it was found; the secrets are never shown."""

    place: str
    token: str | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    oauth: bool = False


def kaggle_credentials_present() -> bool:
    """Tells whether some Kaggle credential is there (right or wrong), without the network."""
    return find_credential() is not None


def find_credential(environment: Mapping[str, str] | None = None) -> Credential | None:
    """Returns the credential that the Kaggle client would use, or None; same order as there."""
    variables = os.environ if environment is None else environment
    home = Path(variables.get("HOME") or Path.home()) / ".kaggle"
    return (
        _token_from_variable(variables.get("KAGGLE_API_TOKEN", "").strip())
        or _token_from_file(home / "access_token")
        or _token_from_file(home / "access_token.txt")
        or _key_from_variables(variables)
        or _key_from_files(_config_folders(variables, home))
        or _oauth(home / "credentials.json")
    )


def unusable_credentials(environment: Mapping[str, str] | None = None) -> list[str]:
    """Returns the credentials that are there and cannot be used, each with the reason.

    A file that is looked for and holds something must not be passed over in silence: without it
    another source is chosen, or none.
    """
    variables = os.environ if environment is None else environment
    home = Path(variables.get("HOME") or Path.home()) / ".kaggle"
    tokens = [home / "access_token", home / "access_token.txt"]
    told = [_unusable(path) for path in (*tokens, home / "credentials.json")]
    told += [_unusable(f / "kaggle.json", _NEEDED) for f in _config_folders(variables, home)]
    given = [name for name in ("KAGGLE_USERNAME", "KAGGLE_KEY") if variables.get(name)]
    if len(given) == 1:
        told.append(f"{given[0]} is set without the other of KAGGLE_USERNAME and KAGGLE_KEY")
    return list(dict.fromkeys(text for text in told if text is not None))


_NEEDED = ("username", "key")


def _unusable(path: Path, keys: tuple[str, ...] = ()) -> str | None:
    """Returns why a credential file cannot be used, None if it can be, or is not there."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    marks = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if content.startswith(marks):
        return (
            f"{path} cannot be read: it begins with a byte order mark, which some editors write; "
            "save it as UTF-8 without one"
        )
    try:
        text = content.decode("utf-8").strip()
        values = json.loads(text) if keys and text else {}
    except ValueError as error:
        kind = "JSON" if isinstance(error, json.JSONDecodeError) else "UTF-8 text"
        return f"{path} cannot be read: it is not {kind}"
    if not text:
        return f"{path} is empty"
    if not isinstance(values, dict):
        return f"{path} cannot be read: it is no JSON object with {' and '.join(keys)}"
    lacking = [key for key in keys if not values.get(key)]
    return f"{path} cannot be used: it has no {' and no '.join(lacking)}" if lacking else None


def _token_from_variable(value: str) -> Credential | None:
    if not value:
        return None
    try:
        if Path(value).is_file():
            return _token_from_file(Path(value), "the file named by KAGGLE_API_TOKEN")
    except OSError:  # a token may be too long for a file name
        pass
    return Credential("KAGGLE_API_TOKEN", token=value)


def _token_from_file(path: Path, place: str | None = None) -> Credential | None:
    text = _text(path)
    return Credential(place or str(path), token=text) if text else None


def _key_from_variables(variables: Mapping[str, str]) -> Credential | None:
    username, key = variables.get("KAGGLE_USERNAME"), variables.get("KAGGLE_KEY")
    if username and key:
        return Credential("KAGGLE_USERNAME and KAGGLE_KEY", username=username, key=key)
    return None


def _config_folders(variables: Mapping[str, str], home: Path) -> list[Path]:
    own = variables.get("KAGGLE_CONFIG_DIR")
    configs = Path(variables.get("XDG_CONFIG_HOME") or home.parent / ".config")
    return [*([Path(own)] if own else []), home, configs / "kaggle"]


def _key_from_files(folders: list[Path]) -> Credential | None:
    for folder in folders:
        try:
            content = json.loads(_text(folder / "kaggle.json") or "null")
        except ValueError:
            continue
        if isinstance(content, dict) and content.get("username") and content.get("key"):
            return Credential(
                str(folder / "kaggle.json"),
                username=str(content["username"]),
                key=str(content["key"]),
            )
    return None


def _oauth(path: Path) -> Credential | None:
    return Credential(str(path), oauth=True) if _text(path) else None


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if text.startswith("\ufeff") else text


def no_credential(other_ways: str) -> InputError:
    """Returns the error for a Kaggle download without a credential."""
    unusable = "".join(f" {text}." for text in unusable_credentials())
    return InputError(
        f"This data set comes from Kaggle, and no Kaggle credential was found.{unusable}",
        where="KAGGLE_API_TOKEN, ~/.kaggle",
        remedy=HOW_TO_SIGN_IN + other_ways,
    )


def other_ways(dataset: DatasetEntry, source: Source, folder: Path) -> str:
    """Returns how else to get a data set: another source, or its archive from a browser.

    Args:
        dataset: the registry entry.
        source: its source at Kaggle.
        folder: where files that are put in place by hand belong.
    """
    names = " or ".join(f"`{name}`" for name in dataset.account_free())
    free = f"; the source {names} needs no account: set it under `sources` in config/config.yaml"
    archive = source.archive
    known = " or ".join([archive.name, *archive.other_names]) if archive else "its files"
    by_hand = f"; or download it at {source.terms} in a browser and put {known} into {folder}"
    return (free if names else "") + by_hand + "."


def explain_kaggle(page: str, credential: Credential, other_ways: str) -> Explain:
    """Returns the function that explains a refusal by Kaggle of the data set at ``page``."""

    def explain(status: int, url: str) -> InputError:
        reasons = {
            401: (
                f"Kaggle does not accept the credential from {credential.place} (401): it is "
                "wrong, expired or revoked.",
                HOW_TO_SIGN_IN + other_ways,
            ),
            403: (
                "Kaggle refuses this data set to your account (403): its terms are not "
                "accepted, or the account is not verified.",
                f"sign in, open {page}, accept the terms there, and try again" + other_ways,
            ),
            404: (
                "Kaggle has no such data set or version (404).",
                f"see whether {page} still exists" + other_ways,
            ),
        }
        what, remedy = reasons.get(
            status, (f"Kaggle answered with an error ({status}).", "try again later" + other_ways)
        )
        return InputError(what, where=page, remedy=remedy)

    return explain


def kaggle_opener(
    slug: str,
    version: str | None,
    credential: Credential,
    explain: Explain,
    settings: TransferSettings,
) -> Opener:
    """Returns the opener for the archive with all files of the data set ``owner/name``."""

    def open_stream(headers: dict[str, str]) -> requests.Response:
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = slug.split("/")
        if version is not None:
            request.dataset_version_number = int(version)
        response = _call(
            credential,
            lambda client: client.datasets.dataset_api_client.download_dataset(request),
            explain,
            settings,
        )
        return _ranged(response, headers, settings) if headers else response

    _import_sdk()
    return open_stream


def check_access(
    slug: str, credential: Credential, explain: Explain, settings: TransferSettings
) -> None:
    """Asks Kaggle for the list of files of a data set: does the credential work there?

    Raises:
        InputError: Kaggle refuses, or the client library is missing.
        TransientError: Kaggle could not be reached or is busy.
    """
    import requests

    _import_sdk()
    from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetFilesRequest

    request = ApiListDatasetFilesRequest()
    request.owner_slug, request.dataset_slug = slug.split("/")
    request.page_size = 1
    try:
        answer = _call(
            credential,
            lambda client: client.datasets.dataset_api_client.list_dataset_files(request),
            explain,
            settings,
        )
    except requests.RequestException:
        raise TransientError("Kaggle could not be reached") from None
    if isinstance(answer, requests.Response):
        raise TransientError(f"Kaggle answered {answer.status_code}")


def _import_sdk() -> None:
    try:
        # What kaggle 1.7 brings under the same name has no tokens, and so none of the second.
        from kagglesdk import KaggleClient, KaggleCredentials  # noqa: F401
    except ImportError:
        raise InputError(
            "The Kaggle client library is not installed, or too old.",
            remedy="pip install 'kaggle>=2.0'"
            + (", or run with --use-conda, which installs it." if conda_found() else "."),
        ) from None


def _call(credential: Credential, work: Any, explain: Explain, settings: TransferSettings) -> Any:
    """Returns the client's answer, or the raw response of a refusal worth retrying."""
    import requests

    try:
        with _client(credential, settings) as client:
            return work(client)
    except requests.HTTPError as error:
        response = error.response
        if response is None:
            raise TransientError("Kaggle's answer could not be read") from None
        if response.history:  # the storage behind Kaggle: its signed address has expired
            raise TransientError(f"Kaggle's storage answered {response.status_code}") from None
        status = _status(response)
        if status == 429 or status >= 500:
            return response
        raise explain(status, "") from None


def _status(response: requests.Response) -> int:
    """Returns the HTTP status, or the code in the body where the two differ."""
    if response.status_code >= 400:
        return response.status_code
    try:
        return int(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return 500


def _client(credential: Credential, settings: TransferSettings) -> Any:
    from kagglesdk import KaggleClient

    token = _oauth_token() if credential.oauth else credential.token
    client = KaggleClient(
        username=credential.username,
        password=credential.key,
        api_token=token,
        user_agent=f"medrobust/{__version__}",
    )
    _limit_waiting(client, settings)
    return client


def _oauth_token() -> str | None:
    from kagglesdk import KaggleClient, KaggleCredentials

    saved = KaggleCredentials.load(client=KaggleClient())
    return saved.get_access_token() if saved else None


def _limit_waiting(client: Any, settings: TransferSettings) -> None:
    """Gives the client's requests a time limit; by itself it would wait for ever."""
    import requests

    limits = (settings.connect_timeout, settings.read_timeout)

    class WithTimeout(requests.adapters.HTTPAdapter):
        def send(self, request: Any, **options: Any) -> requests.Response:  # type: ignore[override]
            options["timeout"] = options.get("timeout") or limits
            return super().send(request, **options)

    http_client = client.http_client()
    http_client.__enter__()
    session = getattr(http_client, "_session", None)
    if session is not None:
        session.mount("https://", WithTimeout())
        session.mount("http://", WithTimeout())


def _ranged(
    response: requests.Response, headers: dict[str, str], settings: TransferSettings
) -> requests.Response:
    """Asks the address that Kaggle forwarded to again, for the missing bytes only."""
    import requests

    if response.status_code != 200:
        return response
    response.close()
    # After the forwarding these headers hold no credential: requests drops it between hosts.
    again = requests.request(
        response.request.method or "GET",
        response.url,
        headers={**response.request.headers, **headers},
        data=response.request.body,
        stream=True,
        timeout=(settings.connect_timeout, settings.read_timeout),
    )
    if again.status_code in (400, 401, 403, 404):
        again.close()
        raise TransientError(f"Kaggle's storage answered {again.status_code}")
    return again
