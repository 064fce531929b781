"""What git-sync does with a repository, by git itself: a worktree of each commit, and a link that is exchanged in one step."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_AUTHOR = {"GIT_AUTHOR_NAME": "tests", "GIT_AUTHOR_EMAIL": "tests@example.com"}
_COMMITTER = {"GIT_COMMITTER_NAME": "tests", "GIT_COMMITTER_EMAIL": "tests@example.com"}


@dataclass(frozen=True)
class GitSync:
    """A repository in which people work, and the folder that git-sync keeps of it, both below a folder."""

    folder: Path

    @property
    def link(self) -> Path:
        """What leads to the folder of the newest commit that was fetched."""
        return self.folder / "synced" / "current"

    def commit(self, documents: Mapping[str, str], folder: str = "") -> None:
        """Commit these files, and no others, in a folder of the repository."""
        repository = self.folder / "repository"
        if not repository.exists():
            repository.mkdir(parents=True)
            self._git(repository, "init", "--quiet", "--initial-branch", "main")
        if (repository / folder).exists() and folder:
            shutil.rmtree(repository / folder)
        for name, text in documents.items():
            path = repository / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._git(repository, "add", "--all")
        self._git(repository, "commit", "--quiet", "--message", "Change the configuration")

    def exchange(self) -> Path:
        """Check the newest commit out into a folder of its own, and let the link lead to it; the folders of others stay."""
        root = self.link.parent
        if not root.exists():
            self._git(self.folder, "clone", "--quiet", "--no-checkout", "repository", str(root))
        self._git(root, "fetch", "--quiet", "origin", "main")
        commit = self._git(root, "rev-parse", "FETCH_HEAD")
        worktree = root / ".worktrees" / commit
        if not worktree.exists():
            self._git(root, "worktree", "add", "--quiet", "--detach", str(worktree), commit)
        temporary = root / "tmp-link"
        temporary.symlink_to(worktree.relative_to(root))
        os.replace(temporary, self.link)
        return worktree

    def _git(self, folder: Path, *arguments: str) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **_AUTHOR, **_COMMITTER}
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
