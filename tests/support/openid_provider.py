"""A provider of OpenID Connect on loopback that signs real tokens and proves who sends a code by PKCE."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, SECRET = "octo", "a secret"


class Provider:
    """What is registered at the provider, and what it was asked.

    Attributes:
        issuer: its address.
        key: what it signs with.
        published: the key that it says it signs with.
        is_broken: whether it answers nonsense.
    """

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.key = self.published = RSAKey.generate_key(2048, {"kid": "1"})
        self.is_broken = False
        self.posted: list[dict[str, str]] = []
        self._codes: dict[str, tuple[dict[str, str], str]] = {}

    def sign_in(self, address: str, *, key: RSAKey | None = None, algorithm: str = "RS256", **claims) -> str:
        """Somebody signs in at the address that they were led to; returns what they are led back to.

        A claim that is None is left out.
        """
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == (
            "code",
            CLIENT_ID,
            "S256",
        )
        now = int(time.time())
        values = {
            "iss": self.issuer, "aud": CLIENT_ID, "sub": "person-1", "iat": now, "exp": now + 300, "nonce": asked["nonce"],
            "preferred_username": "mia@example.com", "groups": ["finance", "everybody"],
        } | claims  # fmt: skip
        values = {name: value for name, value in values.items() if value is not None}
        signing = key or self.key
        header = {"alg": algorithm} | ({"kid": signing.kid} if signing.kid else {})
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked, jwt.encode(header, values, signing, algorithms=[algorithm])
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def get(self, path: str) -> dict:
        """What a GET request is answered."""
        if self.is_broken:
            return {"issuer": "https://elsewhere.example"}
        if path == "/keys":
            return {"keys": [self.published.as_dict(private=False)]}
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict]:
        """What a request for a token is answered."""
        self.posted.append(form)
        asked, token = self._codes.pop(form["code"], ({}, ""))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_client = authorization == "Basic " + base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
        if not is_client or challenge != asked.get("code_challenge") or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": token}


@contextmanager
def openid_provider() -> Iterator[Provider]:
    """A provider that runs until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, provider.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._answer(*provider.token(form, self.headers.get("authorization", "")))

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, status: int, document: dict) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(server.server_address[1])
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
