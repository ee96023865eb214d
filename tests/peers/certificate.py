"""Makes a certificate authority and a certificate of it for localhost: certificate.py CA CERTIFICATE KEY."""

import datetime
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(subject, key, issuer, issuer_key, extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def main(ca_path, certificate_path, key_path):
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = issue("test CA", ca_key, "test CA", ca_key, [(x509.BasicConstraints(ca=True, path_length=0), True)])
    localhost = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    certificate = issue(
        "localhost", key, "test CA", ca_key, [(x509.BasicConstraints(ca=False, path_length=None), True), (localhost, False)]
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, content in ((ca_path, authority), (certificate_path, certificate), (key_path, pem)):
        with open(path, "wb") as file:
            file.write(content)


main(*sys.argv[1:])
