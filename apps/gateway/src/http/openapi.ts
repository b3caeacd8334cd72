import { ERROR_CODES } from '#kernel';

/**
 * The REST interface as OpenAPI 3.1. Written by hand, because the hot routes are registered on Fastify itself; test/e2e/gateway/openapi.spec.ts keeps
 * it and the registered routes equal.
 */
type Json = { readonly [member: string]: unknown };

const string: Json = { type: 'string' };
const integer: Json = { type: 'integer', minimum: 0 };
const boolean: Json = { type: 'boolean' };
const limit = { type: ['integer', 'null'] };
const VIEW_SETTINGS = { archive: boolean, defaultTtlMs: limit, maxIdleMs: limit, maxEntries: limit, maxBytes: limit };
const ref = (name: string): Json => ({ $ref: `#/components/schemas/${name}` });
const array = (items: Json): Json => ({ type: 'array', items });
const object = (properties: Json, required: readonly string[] = Object.keys(properties)): Json => ({
  type: 'object',
  properties,
  ...(required.length > 0 && { required }),
});

const query = (name: string, schema: Json, description: string): Json => ({ name, in: 'query', schema, description });
const header = (name: string, schema: Json, description: string): Json => ({ name, in: 'header', schema, description });
const path = (name: string, description: string): Json => ({
  name,
  in: 'path',
  required: true,
  schema: string,
  description,
});

const TOPIC = path('topic', 'Name of a topic');
const VIEW = path('view', 'Name of a view; a topic has a map view of its own name');
const KEY = path('key', 'Key of an entry, percent-encoded');
const KEY_ENCODING = query(
  'keyEncoding',
  { enum: ['utf8', 'base64url'], default: 'utf8' },
  'How the key in the path is spelled',
);
const ACKS = query(
  'acks',
  { enum: ['none', 'leader', 'quorum', 'applied'], default: 'quorum' },
  'When to answer: at once, durable on the leader, on a majority, or when the view has applied it',
);
const PARTITION = query('partition', integer, 'One partition only');
const IDEMPOTENCY_KEY = header(
  'Idempotency-Key',
  string,
  'A retry with the same key takes effect once and gets the same answer',
);
const CONSISTENCY: readonly Json[] = [
  query(
    'consistency',
    { enum: ['linearizable', 'session', 'bounded', 'stale'], default: 'linearizable' },
    'How fresh the answer is',
  ),
  query('minOffset', string, 'With session: not before this offset (or position, e.g. 0:12,1:7)'),
  query('maxLagMs', integer, 'With bounded: at most this old'),
  query('timeoutMs', { type: 'integer', minimum: 1 }, 'How long to wait for the view'),
];

const ARCHIVED = query(
  'archived',
  { ...boolean, default: false },
  'Where no entry is live, the one of that key that expired or was evicted last, whether it is archived yet or not (with Tideline-Departed)',
);

const dataHeaders: Json = {
  'Tideline-Offset': {
    schema: string,
    description: 'The offset the answer reflects; partition:offset pairs for several partitions',
  },
  'Tideline-Term': { schema: integer, description: 'Term of the leader the answer rests on' },
  'Tideline-Node': { schema: integer, description: 'Id of that leader' },
};
const etag: Json = { ETag: { schema: string, description: '"OFFSET" of the record that wrote the entry' } };

const lifeHeaders: Json = {
  'Tideline-Expires-At': {
    schema: { type: 'string', format: 'date-time' },
    description: 'When the entry goes, or went',
  },
  'Tideline-Departed': {
    schema: { enum: ['expired', 'evicted'] },
    description: 'With archived=true: the entry is not in the view any more, and why',
  },
  'Tideline-Archived-At': {
    schema: { type: 'string', format: 'date-time' },
    description: 'When it was archived; not there while it waits in memory for the archive',
  },
};

const json = (schema: Json): Json => ({ 'application/json': { schema } });
const ok = (description: string, content: Json, headers: Json = {}): Json => ({
  description,
  content,
  ...(Object.keys(headers).length > 0 && { headers }),
});
const problem: Json = {
  description: 'A problem (RFC 9457)',
  content: { 'application/problem+json': { schema: ref('Problem') } },
};
const answers = (responses: Json): Json => ({ ...responses, default: problem });
const accepted: Json = { '202': ok('Acks none: sent, nothing is known', json(object({ partition: integer }, []))) };

const jsonBody = (schema: Json): Json => ({ required: true, content: json(schema) });
const events = (description: string): Json => ok(description, { 'text/event-stream': { schema: string } }, dataHeaders);

const schemas: Json = {
  Problem: object(
    {
      type: { type: 'string', example: 'urn:tideline:error:no-leader' },
      title: string,
      status: integer,
      detail: string,
      code: { enum: Object.keys(ERROR_CODES) },
      outcome: {
        enum: ['rejected', 'unknown'],
        description:
          'On writes. rejected: it has not and will not take effect; unknown: it may still, retry with the same Idempotency-Key',
      },
      details: { type: 'object' },
    },
    ['type', 'title', 'status', 'detail', 'code'],
  ),
  RecordInput: object(
    {
      key: { type: ['string', 'null'] },
      keyBase64: string,
      value: {
        description:
          'A string is its UTF-8 bytes; null deletes the key; other JSON is kept as its compact text with content-type application/json',
      },
      valueBase64: string,
      headers: {
        type: 'object',
        additionalProperties: { description: 'A string, {"base64": string}, or an array of these' },
      },
      ttlMs: { type: 'integer', minimum: 1 },
      type: string,
      op: object({ name: string, args: array({}) }, ['name']),
    },
    [],
  ),
  Record: object(
    {
      partition: integer,
      offset: integer,
      timestamp: integer,
      logTime: integer,
      key: { type: ['string', 'null'] },
      keyBase64: string,
      value: {},
      valueBase64: string,
      headers: { type: 'object' },
      ttlMs: integer,
      type: string,
      opBase64: string,
    },
    ['partition', 'offset', 'timestamp', 'logTime'],
  ),
  Appended: object(
    {
      partition: integer,
      firstOffset: integer,
      lastOffset: integer,
      partitions: array(object({ partition: integer, firstOffset: integer, lastOffset: integer })),
      results: array(object({ ok: boolean, result: {}, code: string, message: string }, ['ok'])),
    },
    ['partition', 'firstOffset', 'lastOffset'],
  ),
  Written: object({ partition: integer, offset: integer }),
  Entry: object(
    {
      key: string,
      keyBase64: string,
      offset: integer,
      logTime: integer,
      contentType: string,
      expiresAt: { type: 'string', format: 'date-time' },
      value: {},
      valueBase64: string,
    },
    ['offset', 'logTime'],
  ),
  ArchivedEntry: object(
    {
      key: string,
      keyBase64: string,
      partition: integer,
      offset: integer,
      logTime: integer,
      contentType: string,
      expiresAt: { type: 'string', format: 'date-time' },
      archivedAt: { type: 'string', format: 'date-time' },
      reason: { enum: ['expired', 'evicted'] },
      value: {},
      valueBase64: string,
    },
    ['partition', 'offset', 'logTime', 'expiresAt', 'archivedAt', 'reason'],
  ),
  Topic: object({
    name: string,
    partitions: array(
      object({
        partition: integer,
        group: integer,
        leader: integer,
        term: integer,
        replicas: array(integer),
        learners: array(integer),
        commitOffset: integer,
        logStartOffset: integer,
      }),
    ),
    replication: integer,
    retention: object({ ms: { type: ['integer', 'null'] }, bytes: { type: ['integer', 'null'] } }),
    view: object({ kind: { enum: ['map', 'none'] }, ...VIEW_SETTINGS }),
  }),
  View: object({
    view: string,
    topic: string,
    kind: { enum: ['map', 'projection'] },
    slots: integer,
    entries: integer,
    bytes: integer,
    lag: integer,
    restoring: { ...array(ref('Restoring')), description: 'Partitions that are not served, or not in full' },
    settings: { anyOf: [object(VIEW_SETTINGS), { type: 'null' }] },
    partitions: array(
      object({
        partition: integer,
        offset: integer,
        logTime: integer,
        commitOffset: integer,
        digest: string,
        entries: integer,
        bytes: integer,
        lag: integer,
      }),
    ),
  }),
  /** What a projection has besides. */
  Projection: object({
    view: string,
    topic: string,
    kind: { enum: ['projection'] },
    version: integer,
    state: { enum: ['live', 'building', 'halted', 'refused'] },
    indexes: array(string),
    archive: boolean,
    building: {
      anyOf: [
        object({
          version: integer,
          offset: integer,
          target: integer,
          percent: { type: 'number' },
          etaSeconds: { type: ['integer', 'null'] },
        }),
        { type: 'null' },
      ],
    },
    halted: array(object({ partition: integer, offset: integer, reason: string })),
    parked: integer,
    refusal: string,
  }),
  ParkedEvent: object(
    {
      position: string,
      partition: integer,
      offset: integer,
      logTime: integer,
      type: { type: ['string', 'null'] },
      key: { type: ['string', 'null'] },
      keyBase64: string,
      value: {},
      valueBase64: string,
      error: string,
      attempts: integer,
    },
    ['position', 'partition', 'offset', 'logTime', 'type', 'error', 'attempts'],
  ),
  Snapshot: object({
    host: { type: 'string', description: 'The view service of the host whose disk it is on' },
    view: string,
    partition: integer,
    offset: integer,
    logTime: integer,
    digest: string,
    bytes: integer,
    entries: integer,
    slots: { type: 'integer', description: 'Slots that have ever been used' },
    createdAt: { type: 'string', format: 'date-time' },
    verified: { type: 'boolean', description: 'Read back whole when it was written, and not found damaged since' },
  }),
  Restoring: object(
    {
      partition: integer,
      phase: { enum: ['snapshot', 'log'] },
      source: string,
      percent: integer,
      offset: integer,
      target: integer,
      etaSeconds: { type: ['integer', 'null'] },
      stoppedSlots: array(integer),
      problem: { type: ['string', 'null'], description: 'Why it cannot be built for now; it is tried again' },
    },
    ['partition', 'stoppedSlots', 'problem'],
  ),
  Cluster: object({
    clusterId: string,
    node: integer,
    nodes: array(object({ id: integer, addresses: { type: 'object' }, region: string, alive: boolean })),
    topics: array(ref('Topic')),
  }),
  Ready: object(
    {
      status: { enum: ['ready', 'not-ready'] },
      checks: array(object({ name: string, ok: boolean, detail: string }, ['name', 'ok'])),
    },
    ['status'],
  ),
};

const entryPath: Json = {
  parameters: [VIEW, KEY, KEY_ENCODING],
  get: {
    operationId: 'getEntry',
    tags: ['views'],
    summary: 'The value as stored, with its content type',
    parameters: [
      ...CONSISTENCY,
      ARCHIVED,
      header('If-None-Match', string, 'ETags the caller has: 304 when one is current'),
    ],
    responses: answers({
      '200': ok(
        'The value',
        { '*/*': {} },
        {
          ...dataHeaders,
          ...etag,
          ...lifeHeaders,
        },
      ),
      '304': { description: 'The caller has it' },
    }),
  },
  head: {
    operationId: 'headEntry',
    tags: ['views'],
    summary: 'As GET, without the value',
    parameters: [...CONSISTENCY, ARCHIVED],
    responses: answers({
      '200': { description: 'There is an entry', headers: { ...dataHeaders, ...etag, ...lifeHeaders } },
    }),
  },
  put: {
    operationId: 'putEntry',
    tags: ['views'],
    summary: 'Stores the body as it is, with its content type',
    parameters: [
      query('ttl', string, 'Time to live: 30s, 1500ms, 2h; a number alone is milliseconds'),
      ACKS,
      IDEMPOTENCY_KEY,
      header('If-Match', string, '"OFFSET": only if the entry is that one; *: only if there is one'),
      header('If-None-Match', string, '*: only if there is none'),
    ],
    requestBody: { content: { '*/*': {} } },
    responses: answers({ '200': ok('Stored', json(ref('Written')), { ...dataHeaders, ...etag }), ...accepted }),
  },
  delete: {
    operationId: 'deleteEntry',
    tags: ['views'],
    summary: 'Removes the entry; there need not be one',
    parameters: [ACKS, IDEMPOTENCY_KEY, header('If-Match', string, 'As for PUT')],
    responses: answers({ '200': ok('Removed', json(ref('Written')), dataHeaders), ...accepted }),
  },
};

export const openApiDocument = {
  openapi: '3.1.0',
  info: {
    title: 'Tideline',
    version: '1',
    description:
      'A replicated append log with materialized, expiring map views. Errors are problems (RFC 9457) with a stable code.',
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
  tags: [
    { name: 'topics', description: 'Append to the log and read it' },
    { name: 'views', description: 'The current entries' },
    { name: 'cluster', description: 'Who is there and who leads' },
    { name: 'probes', description: 'For supervisors and monitoring' },
  ],
  paths: {
    '/v1/topics': {
      get: {
        operationId: 'listTopics',
        tags: ['topics'],
        summary: 'All topics',
        responses: answers({ '200': ok('Topics', json(object({ topics: array(ref('Topic')) }))) }),
      },
    },
    '/v1/topics/{topic}': {
      parameters: [TOPIC],
      get: {
        operationId: 'getTopic',
        tags: ['topics'],
        summary: 'One topic',
        responses: answers({ '200': ok('The topic', json(ref('Topic'))) }),
      },
    },
    '/v1/topics/{topic}/records': {
      parameters: [TOPIC],
      post: {
        operationId: 'appendRecords',
        tags: ['topics'],
        summary: 'Appends records: all of a request or, when one is not valid, none',
        parameters: [ACKS, IDEMPOTENCY_KEY],
        requestBody: {
          required: true,
          content: {
            ...json(object({ records: array(ref('RecordInput')) })),
            'application/x-ndjson': { schema: { type: 'string', description: 'One record a line' } },
          },
        },
        responses: answers({ '200': ok('Where they are', json(ref('Appended')), dataHeaders), ...accepted }),
      },
      get: {
        operationId: 'fetchRecords',
        tags: ['topics'],
        summary: 'Committed records of one partition',
        parameters: [
          query('partition', integer, 'Default 0'),
          query('from', string, 'earliest (default), latest, an offset, or an ISO 8601 time'),
          query('limit', integer, 'Records at most'),
          query('maxBytes', integer, 'Bytes at most, in the log'),
          query('waitMs', integer, 'How long to wait for the first record'),
        ],
        responses: answers({
          '200': ok(
            'Records',
            json(
              object({
                partition: integer,
                records: array(ref('Record')),
                nextOffset: integer,
                commitOffset: integer,
                logStartOffset: integer,
              }),
            ),
            dataHeaders,
          ),
        }),
      },
    },
    '/v1/topics/{topic}/tail': {
      parameters: [TOPIC],
      get: {
        operationId: 'tailTopic',
        tags: ['topics'],
        summary: 'Records as they are committed: Server-Sent Events, or WebSocket when upgraded',
        parameters: [
          query('from', string, 'latest (default), earliest, an offset, or an ISO 8601 time'),
          PARTITION,
          query('keyPrefix', string, 'Only records whose key begins so'),
          query('type', string, 'Only records of this type'),
          query('lastEventId', string, 'As the header, for clients that cannot set it'),
          header('Last-Event-ID', string, 'Goes on after this position; wins over from'),
        ],
        responses: answers({
          '200': events('Events: record (id is the position, data a Record), end (data is a problem)'),
        }),
      },
    },
    '/v1/views': {
      get: {
        operationId: 'listViews',
        tags: ['views'],
        summary: 'All views',
        responses: answers({
          '200': ok('Views', json(object({ views: array({ anyOf: [ref('View'), ref('Projection')] }) }))),
        }),
      },
    },
    '/v1/views/{view}': {
      parameters: [VIEW],
      get: {
        operationId: 'getView',
        tags: ['views'],
        summary: 'One view',
        responses: answers({ '200': ok('The view', json({ anyOf: [ref('View'), ref('Projection')] })) }),
      },
    },
    '/v1/views/{view}/entries': {
      parameters: [VIEW],
      get: {
        operationId: 'scanEntries',
        tags: ['views'],
        summary: 'Entries in the order of their keys, page by page',
        parameters: [
          query('prefix', string, 'Only keys that begin so'),
          query('index', string, 'Instead of a prefix: entries by this index of a projection'),
          query('value', string, 'and this value'),
          query('limit', integer, 'Entries at most'),
          query('cursor', string, 'The cursor of the page before'),
          query('values', boolean, 'With values'),
          PARTITION,
          ...CONSISTENCY,
        ],
        responses: answers({
          '200': ok(
            'A page',
            json(object({ entries: array(ref('Entry')), cursor: { type: ['string', 'null'] } })),
            dataHeaders,
          ),
        }),
      },
    },
    '/v1/views/{view}/entries/{key}': entryPath,
    '/v1/views/{view}/entries/{key}/commands': {
      parameters: [VIEW, KEY, KEY_ENCODING],
      post: {
        operationId: 'commandEntry',
        tags: ['views'],
        summary: 'A command of the data type of the entry',
        parameters: [IDEMPOTENCY_KEY],
        requestBody: jsonBody(object({ op: string, args: array({}) }, ['op'])),
        responses: answers({
          '200': ok('Its result', json(object({ result: {}, partition: integer, offset: integer })), {
            ...dataHeaders,
            ...etag,
          }),
        }),
      },
    },
    '/v1/views/{view}/archive': {
      parameters: [VIEW],
      get: {
        operationId: 'queryArchive',
        tags: ['views'],
        summary:
          'Entries that have expired and are in the archive, not those on their way there, in the order in which they expired, page by page',
        parameters: [
          query('key', string, 'Only this key'),
          KEY_ENCODING,
          query('from', string, 'Expired at this time or later: ISO 8601, or milliseconds since 1970'),
          query('to', string, 'Expired before this time'),
          query('limit', { type: 'integer', minimum: 1, maximum: 1000, default: 100 }, 'Entries at most'),
          query('cursor', string, 'The cursor of the page before'),
        ],
        responses: answers({
          '200': ok(
            'A page; empty for a view without an archive',
            json(object({ entries: array(ref('ArchivedEntry')), cursor: { type: ['string', 'null'] } })),
          ),
        }),
      },
    },
    '/v1/views/{view}/snapshots': {
      parameters: [VIEW],
      get: {
        operationId: 'listSnapshots',
        tags: ['views'],
        summary: 'Snapshots that the hosts of the view have, newest first within a partition',
        parameters: [query('host', string, 'Of this host only')],
        responses: answers({ '200': ok('Snapshots', json(object({ snapshots: array(ref('Snapshot')) }))) }),
      },
      post: {
        operationId: 'createSnapshots',
        tags: ['views'],
        summary:
          'Takes one of each partition now, on the host that answers; one that has not moved on keeps its newest',
        parameters: [PARTITION],
        responses: answers({ '201': ok('What there is now', json(object({ snapshots: array(ref('Snapshot')) }))) }),
      },
    },
    '/v1/views/{view}/export': {
      parameters: [VIEW],
      get: {
        operationId: 'exportView',
        tags: ['views'],
        summary: 'All entries of a map view in one file, of a snapshot of each partition that is taken now',
        responses: answers({
          '200': ok('The file (docs/protocols.md); without its end when something went wrong on the way', {
            'application/vnd.tideline.view-export': { schema: { type: 'string', format: 'binary' } },
          }),
        }),
      },
    },
    '/v1/views/{view}/snapshots/restore': {
      parameters: [VIEW],
      post: {
        operationId: 'restoreSnapshots',
        tags: ['views'],
        summary:
          'Builds the view anew from a snapshot and the log, on the host that answers; the old state serves meanwhile',
        parameters: [
          PARTITION,
          query('offset', integer, 'From the snapshot at this offset, with partition; else from the best'),
        ],
        responses: answers({
          '202': ok(
            'Begun; how far it is: GET /v1/views/{view}, restoring',
            json(object({ restored: array(object({ partition: integer, source: string, offset: integer })) })),
          ),
        }),
      },
    },
    '/v1/views/{view}/parked': {
      parameters: [VIEW],
      get: {
        operationId: 'listParkedEvents',
        tags: ['views'],
        summary: 'Events that a projection could not apply, oldest first, page by page',
        parameters: [
          query('limit', { type: 'integer', minimum: 1, maximum: 1000, default: 100 }, 'Events at most'),
          query('cursor', string, 'The cursor of the page before'),
        ],
        responses: answers({
          '200': ok(
            'A page',
            json(object({ events: array(ref('ParkedEvent')), cursor: { type: ['string', 'null'] } })),
          ),
        }),
      },
    },
    '/v1/views/{view}/parked/replay': {
      parameters: [VIEW],
      post: {
        operationId: 'replayParkedEvents',
        tags: ['views'],
        summary: 'Tries all parked events again; what fails stays',
        responses: answers({
          '200': ok(
            'Done on every host at these offsets; so many are parked still',
            json(
              object({
                replays: array(object({ partition: integer, offset: integer })),
                parked: integer,
                more: boolean,
              }),
            ),
          ),
        }),
      },
    },
    '/v1/views/{view}/parked/{position}/replay': {
      parameters: [VIEW, path('position', 'partition:offset of the event')],
      post: {
        operationId: 'replayParkedEvent',
        tags: ['views'],
        summary: 'Tries one parked event again',
        responses: answers({
          '200': ok(
            'Whether it was applied, and what was wrong if not',
            json(
              object({ partition: integer, offset: integer, applied: boolean, error: string }, [
                'partition',
                'offset',
                'applied',
              ]),
            ),
          ),
        }),
      },
    },
    '/v1/views/{view}/watch': {
      parameters: [VIEW],
      get: {
        operationId: 'watchView',
        tags: ['views'],
        summary: 'The current entries, then changes, as Server-Sent Events',
        parameters: [query('prefix', string, 'Only keys that begin so'), PARTITION],
        responses: answers({
          '200': events(
            'Events: put (data is an Entry), delete, expire (key and offset), live (the current entries have been sent), end',
          ),
        }),
      },
    },
    '/v1/cluster': {
      get: {
        operationId: 'describeCluster',
        tags: ['cluster'],
        summary: 'Nodes, topics, partitions and their leaders',
        responses: answers({ '200': ok('The cluster', json(ref('Cluster'))) }),
      },
    },
    '/v1/cluster/partitions/{topic}/{partition}/leader': {
      parameters: [TOPIC, path('partition', 'Number of the partition')],
      post: {
        operationId: 'transferLeadership',
        tags: ['cluster'],
        summary: 'Hands the leadership of a partition to a node',
        requestBody: jsonBody(object({ node: { type: 'integer', minimum: 1 } })),
        responses: answers({
          '200': ok('The node leads', json(object({ topic: string, partition: integer, leader: integer }))),
        }),
      },
    },
    '/livez': {
      get: {
        operationId: 'livez',
        tags: ['probes'],
        summary: 'Whether the process lives',
        responses: answers({ '200': ok('It does', json(object({ status: string }))) }),
      },
    },
    '/readyz': {
      get: {
        operationId: 'readyz',
        tags: ['probes'],
        summary: 'Whether it should get work',
        parameters: [query('verbose', boolean, 'All checks, not only failed ones')],
        responses: answers({ '200': ok('It should', json(ref('Ready'))), '503': ok('Not yet', json(ref('Ready'))) }),
      },
    },
    '/metrics': {
      get: {
        operationId: 'metrics',
        tags: ['probes'],
        summary: 'Figures in the Prometheus text format',
        responses: answers({ '200': ok('Figures', { 'text/plain': { schema: string } }) }),
      },
    },
    '/openapi.json': {
      get: {
        operationId: 'openApi',
        tags: ['probes'],
        summary: 'This description',
        responses: answers({ '200': ok('OpenAPI 3.1', json({ type: 'object' })) }),
      },
    },
    '/docs': {
      get: {
        operationId: 'docs',
        tags: ['probes'],
        summary: 'This description, for people',
        responses: answers({ '200': ok('A page', { 'text/html': { schema: string } }) }),
      },
    },
  },
  components: { schemas },
} as const;
