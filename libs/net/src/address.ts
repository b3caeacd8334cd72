import { TidelineError } from '#kernel';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** `host:port`, with an IPv6 address in brackets. @throws TidelineError `bad-option` */
export const parseAddress = (address: string): HostPort => {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw new TidelineError('bad-option', `${address} is not host:port`);
  return { host: match[1] ?? match[2], port };
};

export const formatAddress = ({ host, port }: HostPort): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
