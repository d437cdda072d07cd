import { createServer, type TLSSocket } from 'node:tls';
import { Server, ServerCredentials, type ServerOptions, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { workerService } from '../../proto/grpc.ts';
import { tlsSession } from '../../proto/node.ts';
import type { Channel } from '../../proto/index.ts';

/** Time for a TLS handshake, in ms. */
const HANDSHAKE_MS_MAX = 5_000;
/** Time that a stop gives to calls under way, in ms. */
const STOP_MS_MAX = 1_000;

export interface SessionListener {
  /** host:port actually bound */
  readonly address: string;
  stop(): Promise<void>;
  /** Ends every session at once. */
  kill(): void;
}

/**
 * Serves worker.proto over mutual TLS 1.3: only the holder of the given gateway certificate's key gets in. gRPC tells a handler
 * nothing of the session that its call came in by; so each session has a server of its own, whose handlers know it.
 *
 * @param listen host:port; port 0 takes a free one
 */
export async function listenForSessions(
  listen: string,
  options: ServerOptions,
  identity: { readonly privateKeyPem: string; readonly certificatePem: string; readonly gatewayCertificatePem: string },
  handlersFor: (channel: Channel) => UntypedServiceImplementation,
): Promise<SessionListener> {
  const sessions = new Map<TLSSocket, Server>();
  const serve = (socket: TLSSocket): void => {
    socket.on('error', () => {}); // 'close' follows
    const { exporter, ownKey, peerKey } = tlsSession(socket);
    const server = new Server({ ...options, 'grpc.enable_channelz': 0 });
    server.addService(workerService, handlersFor({ exporter, workerKey: ownKey, gatewayKey: peerKey }));
    server.createConnectionInjector(ServerCredentials.createInsecure()).injectConnection(socket);
    sessions.set(socket, server);
    socket.once('close', () => {
      sessions.delete(socket);
      server.forceShutdown();
    });
  };
  const listener = createServer(
    {
      key: identity.privateKeyPem,
      cert: identity.certificatePem,
      ca: identity.gatewayCertificatePem,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      handshakeTimeout: HANDSHAKE_MS_MAX,
      noDelay: true,
    },
    (socket) => {
      try {
        serve(socket);
      } catch {
        socket.destroy(); // nothing is served that evidence could not be bound to
      }
    },
  );
  const colon = listen.lastIndexOf(':');
  const host = listen.slice(0, colon);
  const port = await new Promise<number>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(Number(listen.slice(colon + 1)), host.replace(/^\[|\]$/g, ''), () => {
      const bound = listener.address();
      resolve(typeof bound === 'object' && bound !== null ? bound.port : 0);
    });
  });

  return {
    address: `${host}:${port}`,
    async stop() {
      listener.close();
      await Promise.all(
        [...sessions].map(
          ([socket, server]) =>
            new Promise<void>((resolve) => {
              socket.once('close', resolve);
              server.tryShutdown(() => socket.destroySoon());
              setTimeout(() => socket.destroy(), STOP_MS_MAX).unref();
            }),
        ),
      );
    },
    kill() {
      listener.close();
      for (const socket of sessions.keys()) socket.destroy();
    },
  };
}
