import { connect, type TLSSocket } from 'node:tls';
import { CallCredentials, ChannelCredentials, type experimental } from '@grpc/grpc-js';
import type { ClientCertificate } from './client-certificate.ts';

type SecureConnector = experimental.SecureConnector;

/**
 * Credentials of a channel that has one TLS session in its life. Where gRPC would connect anew, unseen, nobody has attested to the new
 * session; so it is refused one, and its calls fail.
 *
 * Subclassing is not what gRPC offers to its users, but it is the only way to the session: everything that depends on it is in this
 * file, and a release that changes it fails `gateway/channel.test.ts`.
 */
export class OneSession extends ChannelCredentials {
  readonly #own: ClientCertificate;
  #socket: TLSSocket | undefined;
  #failure: Error | undefined;

  constructor(own: ClientCertificate) {
    super();
    this.#own = own;
  }

  /** Once it is made; whoever reads it looks at no other. */
  get socket(): TLSSocket | undefined {
    return this.#socket;
  }
  /** Why it was not made. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  _isSecure(): boolean {
    return true;
  }
  _equals(other: ChannelCredentials): boolean {
    return this === other;
  }
  _createSecureConnector(): SecureConnector {
    return {
      connect: async (tcp) => {
        if (this.#socket !== undefined) throw new Error('this channel has had its session');
        const socket = connect({
          socket: tcp,
          // The certificate is self-signed: its key is judged by the evidence that names it.
          rejectUnauthorized: false,
          minVersion: 'TLSv1.3',
          ALPNProtocols: ['h2'],
          key: this.#own.privateKeyPem,
          cert: this.#own.certificatePem,
        });
        this.#socket = socket;
        await new Promise<void>((resolve, reject) => {
          socket.once('secureConnect', resolve);
          socket.on('error', (error) => {
            this.#failure ??= error;
            reject(error);
          });
          socket.once('close', () => reject(new Error('closed')));
        });
        return { socket, secure: true };
      },
      waitForReady: async () => {},
      getCallCredentials: () => CallCredentials.createEmpty(),
      destroy: () => {},
    };
  }
}
