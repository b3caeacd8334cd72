import type { FastifyReply } from 'fastify';

/** What every answer about data says about itself: the offset it reflects, and the term and node of the leader behind it. */
export const setDataHeaders = (
  reply: FastifyReply,
  { offset, term, node }: { readonly offset: number | string; readonly term: number; readonly node: number },
): FastifyReply =>
  reply
    .header('tideline-offset', String(offset))
    .header('tideline-term', String(term))
    .header('tideline-node', String(node));

export const JSON_CONTENT_TYPE = 'application/json; charset=utf-8';
