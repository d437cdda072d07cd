import { createHash, type X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { CfnError } from './errors.ts';

/** What one end of a TLS session says of it. */
export interface TlsSession {
  /** RFC 9266, `tls-exporter`: 32 bytes. */
  readonly exporter: Uint8Array;
  /** SHA-256 of the SubjectPublicKeyInfo, each 32 bytes. */
  readonly ownKey: Uint8Array;
  readonly peerKey: Uint8Array;
}

/** @throws {CfnError} `CFN_CHANNEL_MISMATCH` when it is not TLS 1.3, lacks a certificate on either side, or exports nothing */
export function tlsSession(socket: TLSSocket): TlsSession {
  const version = socket.getProtocol();
  // Below 1.3 the exporter binds only with extended master secrets (RFC 9266 §4.2).
  if (version !== 'TLSv1.3') throw refused(`its version is ${version ?? 'none'}`);
  const [own, peer] = [socket.getX509Certificate(), socket.getPeerX509Certificate()];
  if (own === undefined || peer === undefined) throw refused('a certificate is missing');
  return { exporter: exporterOf(socket), ownKey: keyDigest(own), peerKey: keyDigest(peer) };
}

function exporterOf(socket: TLSSocket): Uint8Array {
  try {
    return new Uint8Array(socket.exportKeyingMaterial(32, 'EXPORTER-Channel-Binding', Buffer.alloc(0)));
  } catch (cause) {
    throw refused('it exports no keying material', cause);
  }
}

function keyDigest({ publicKey }: X509Certificate): Uint8Array {
  return new Uint8Array(
    createHash('sha256')
      .update(publicKey.export({ format: 'der', type: 'spki' }))
      .digest(),
  );
}

const refused = (why: string, cause?: unknown): CfnError =>
  new CfnError('CFN_CHANNEL_MISMATCH', `evidence cannot be bound to this TLS session: ${why}`, { cause });
