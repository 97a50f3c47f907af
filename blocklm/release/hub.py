"""Uploads a folder to the hub, and turns the hub's errors into messages that say what to do.

The token comes from HF_TOKEN or from `hf auth login`. It is never an argument, so that none of our files contains it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx2 import HTTPError, RequestError
from huggingface_hub import HfApi, ModelCard, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from blocklm.errors import UserError

LOGIN = "set HF_TOKEN to a token with write access, or run `hf auth login`"


def check_reachable(repo_id: str) -> None:
    """Check early that a push could start.

    Raises:
        UserError: no token or a wrong one, no network, or offline mode.
    """
    if get_token() is None:
        raise UserError(f"there is no token to push `{repo_id}` with", LOGIN)
    with _explain_errors(repo_id):
        HfApi().whoami()


def upload(folder: Path, repo_id: str, private: bool, message: str) -> str:
    """Put all files of `folder` into a model repository in one commit; return the address of the commit.

    The first push creates the repository. Files that an interrupted upload has transferred are not transferred again.

    Raises:
        UserError: the hub refuses or does not answer, or `private` is true and the repository is public.
    """
    api = HfApi()
    with _explain_errors(repo_id):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise UserError(
                f"`{repo_id}` exists and is public", "make it private in its settings, or ask with `--private false`"
            )
        commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=message)
    return str(commit.commit_url)


def licence_of(base_model: str, folder: Path | None) -> str | None:
    """The licence that the base model's card states, in its folder or on the hub; None if it is not to be had."""
    local = None if folder is None else folder / "README.md"
    try:
        card = ModelCard.load(
            local if local is not None and local.is_file() else base_model, ignore_metadata_errors=True
        )
    except (OSError, HTTPError, ValueError):
        return None
    licence: str | None = card.data.license
    return licence


@contextmanager
def _explain_errors(repo_id: str) -> Iterator[None]:
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise UserError(
            "HF_HUB_OFFLINE is set: nothing can be pushed", "unset it and run the same command again"
        ) from error
    except HfHubHTTPError as error:
        raise _refusal(repo_id, error) from error
    except (RequestError, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"the hub at {constants.ENDPOINT} cannot be reached: {' '.join(str(error).split())[:200]}",
            "check the network and run the same command again; what was transferred is not transferred twice",
        ) from error


def _refusal(repo_id: str, error: HfHubHTTPError) -> UserError:
    code = error.response.status_code
    message = " ".join((error.server_message or str(error)).split())[:200]
    if code == 401:
        return UserError(f"the hub does not accept the token (401): {message}", LOGIN)
    if code == 403:
        return UserError(
            f"the token may not write to `{repo_id}` (403): {message}",
            "give the token write access, or push to a name of your own",
        )
    if code in (409, 412):
        return UserError(
            f"`{repo_id}` changed on the hub or is in use ({code}): {message}",
            "run the same command again; what was transferred is not transferred twice",
        )
    return UserError(f"the hub refuses ({code}): {message}", "run the same command again later")
