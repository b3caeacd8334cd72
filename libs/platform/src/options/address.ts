import { isIP } from 'node:net';
import { asNodeId, type NodeId } from '#kernel';

/** Where a service listens. An IPv6 host is kept without its brackets. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** A member of the cluster as the `peers` option names it: its id and where its peers reach it. */
export interface PeerAddress extends Address {
  readonly nodeId: NodeId;
}

/** Node ids are 31 bits on the wire; 0 means nobody. */
export const NODE_ID_MAX = 2 ** 31 - 1;

const HOST = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?$/i;

export const isHost = (text: string): boolean => {
  if (isIP(text) !== 0) return true;
  // Digits and dots only, yet no IP address: 300.1.1.1 is a slip, not a name.
  return HOST.test(text) && !/^[\d.]+$/.test(text);
};

/** `host:port` or `[ipv6]:port`; undefined if it is neither. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text.trim());
  if (!match) return undefined;
  const host = match[1] ?? match[2];
  const port = Number(match[3]);
  if (port < 1 || port > 65_535) return undefined;
  if (match[1] !== undefined ? isIP(host) !== 6 : !isHost(host)) return undefined;
  return { host, port };
}

/** `id@host:port`; undefined if it is not. */
export function parsePeer(text: string): PeerAddress | undefined {
  const match = /^(\d{1,10})@(.+)$/.exec(text.trim());
  if (!match) return undefined;
  const id = Number(match[1]);
  const address = parseAddress(match[2]);
  if (!address || id < 1 || id > NODE_ID_MAX) return undefined;
  return { nodeId: asNodeId(id), ...address };
}

export const formatAddress = ({ host, port }: Address): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

/** An address only this machine can reach. Names are not resolved: of names, only `localhost` counts. */
export function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith('127.');
  if (isIP(host) === 6) return /^(0*:)*:?0*1$/.test(host) || /^::ffff:127\./i.test(host);
  return host.toLowerCase() === 'localhost';
}

/** An address to listen on that nobody can connect to as such. */
export const isWildcard = (host: string): boolean => host === '0.0.0.0' || (isIP(host) === 6 && /^[0:]+$/.test(host));
