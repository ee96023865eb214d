"""A mail server that takes messages and shows each as a line of JSON.

The first line says on which port of this machine it listens. Who is called refused@... is refused for good; who is called
later@... is refused for now. What is sent to slow@... is thought about for longer than a connection may take; to vanish@... it is taken, and
the server hangs up instead of saying so.
"""

import argparse
import asyncio
import email
import email.policy
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult


def show(line):
    print(json.dumps(line), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        # A server repeats the address, as real ones do.
        if address.startswith("refused@"):
            return f"550 5.1.1 <{address}>: no such mailbox"
        if address.startswith("later@"):
            return f"451 4.2.0 <{address}>: greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = [part for part in message.walk() if not part.is_multipart()]
        show(
            {
                "mail_from": envelope.mail_from,
                "rcpt_tos": envelope.rcpt_tos,
                "tls": session.ssl is not None,
                "login": session.auth_data and session.auth_data.login.decode(),
                "headers": [[name, str(value)] for name, value in message.items()],
                "type": message.get_content_type(),
                "parts": [[part.get_content_type(), part.get_content()] for part in parts],
                "ascii": envelope.content.isascii(),
            }
        )
        if any(address.startswith("slow@") for address in envelope.rcpt_tos):
            await asyncio.sleep(12)
        if any(address.startswith("vanish@") for address in envelope.rcpt_tos):
            server.transport.abort()
        return "250 OK"


def authenticator(login):
    user, password = login.split(":")

    def check(server, session, envelope, mechanism, data):
        right = (data.login.decode(), data.password.decode()) == (user, password)
        return AuthResult(success=right, handled=False, auth_data=data)

    return check


async def main():
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--certificate", help="offer STARTTLS, and demand it")
    options.add_argument("--key")
    options.add_argument("--implicit-tls", action="store_true")
    options.add_argument("--login", help="user:password, demanded")
    options = options.parse_args()
    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate, options.key)
    starttls = context is not None and not options.implicit_tls

    def protocol():
        return SMTP(
            Handler(),
            hostname="mail.test",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            authenticator=authenticator(options.login) if options.login else None,
            auth_required=bool(options.login),
            auth_require_tls=starttls,
        )

    server = await asyncio.get_running_loop().create_server(
        protocol, "127.0.0.1", options.port, ssl=context if options.implicit_tls else None
    )
    show({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


asyncio.run(main())
