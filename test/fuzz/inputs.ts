/** What is thrown at the server: requests that are wrong in one way or in several, from a seed, so that they repeat. */
import zlib from 'node:zlib'
import { hasBody, type Endpoint } from '../../src/wire/endpoint.ts'
import { endpoints } from '../../src/wire/index.ts'

export type Input = {
  kind: string
  method: string
  target: string
  headers: Record<string, string>
  body: Uint8Array | null
}

/** Numbers from 0 to 1 that repeat for a seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

type Random = () => number
const oneOf = <T>(random: Random, items: readonly T[]): T => items[Math.floor(random() * items.length)] as T // never empty

const words = [
  '',
  '0',
  '1',
  '-1',
  '1.5',
  '1e9',
  '2147483647',
  '2147483648',
  '99999999999999999999',
  'NaN',
  'null',
  'true',
  'undefined',
  '[]',
  '{}',
  '%',
  '%00',
  '%ff%fe',
  '%2e%2e%2f',
  '..',
  '../../etc/passwd',
  "' OR 1=1 --",
  '"; DROP TABLE jobs; --',
  '\\',
  '*',
  '_',
  '%25',
  'name',
  'id',
  '__proto__',
  'constructor',
  'toString',
  'ä€😀',
  'a'.repeat(2000),
  ' ',
  '+',
  'Ascending',
  'Descending',
  'GOOD',
  'BAD,FAIL',
  '2026-01-01T00:00:00',
  '-',
]
const encoded = words.map((word) => (word.startsWith('%') ? word : encodeURIComponent(word)))
const members = [
  'limit',
  'before',
  'after',
  'sort',
  'direction',
  'distribution',
  'release',
  'releases',
  'component',
  'architecture',
  'name',
  'version',
  'source_name',
  'seen_only',
  'status',
  'reason',
  'search',
  'search_type',
  'maintainer',
  'since',
  'force',
  'offset',
  'format',
  'kinds',
  'distro',
  'suite',
  '',
  '%5B%5D',
  'limit%5B%5D',
]
const values: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1.5,
  1e308,
  2 ** 31,
  -(2 ** 31) - 1,
  '',
  'x',
  'GOOD',
  'FAIL',
  '2026-01-01T00:00:00',
  '2026-01-01T00:00:00Z',
  '\u0000',
  '\ud800',
  'y'.repeat(5000),
  [],
  [[]],
  [null],
  [256],
  [1, 2, 3],
  [0x28, 0xb5, 0x2f, 0xfd, 1, 2],
  {},
  { a: 1 },
  { length: 1e9 },
  ['x'],
  [{}],
  [{ name: 'x', status: 'GOOD' }],
]
const names = [
  'distribution',
  'release',
  'architecture',
  'packages',
  'component',
  'name',
  'version',
  'status',
  'priority',
  'reason',
  'supported_backends',
  'supported_architectures',
  'queue_id',
  'built_at',
  'build_log',
  'artifacts',
  'lease',
  'evidence',
  'tags',
  'limit',
  'index',
  '__proto__',
  'constructor',
  'toJSON',
  'url',
  'paused',
  'note',
  'draining',
]
const codings = ['zstd', 'gzip', 'deflate', 'br', 'x-gzip', 'identity', 'snappy', '', 'zstd, gzip', 'ZSTD']
const types = [
  'application/json',
  'application/json; charset=utf-8',
  'text/json',
  'text/plain',
  '',
  'multipart/form-data',
  'application/json; charset=utf-16',
]
const headerNames = [
  'accept-encoding',
  'if-none-match',
  'if-modified-since',
  'range',
  'content-range',
  'expect-nothing',
  'x-worker-key',
  'x-auth-cookie',
  'x-signup-secret',
  'last-event-id',
  'origin',
  'accept',
  'x-forwarded-for',
  'host-x',
  'cookie',
  'upgrade-insecure-requests',
  'te',
]
const headerValues = [
  '',
  '*',
  'W/',
  '"',
  ',,,,',
  ';q=',
  'zstd;q=nan',
  'gzip;q=2',
  'identity;q=0',
  '*;q=0',
  'bytes=0-1',
  'bytes=-1',
  'Thu, 99 Jan 0000',
  'x'.repeat(4000),
  'a,'.repeat(2000),
  '-1',
  '99999999999999999999',
  'k\xe9y',
  '0',
]

const bomb = zlib.zstdCompressSync(Buffer.alloc(80_000_000, 0x20))
const gzipBomb = zlib.gzipSync(Buffer.alloc(40_000_000, 0x5b))
const deep = `${'['.repeat(50_000)}${']'.repeat(50_000)}`

/** One input from a seed. */
export function inputOf(random: Random, secrets: { cookie: string }): Input {
  const row = oneOf(random, endpoints)
  const headers: Record<string, string> = {
    'x-real-ip': `10.${Math.floor(random() * 250)}.${Math.floor(random() * 250)}.1`,
  }
  if (random() < 0.9)
    Object.assign(headers, {
      'x-auth-cookie': secrets.cookie,
      'x-worker-key': 'fuzz',
      'x-signup-secret': 'fuzz',
    })
  const input: Input = {
    kind: 'plain',
    method: row.method,
    target: targetOf(random, row),
    headers,
    body: null,
  }
  if (random() < 0.2)
    Object.assign(
      headers,
      Object.fromEntries(
        Array.from({ length: 1 + Math.floor(random() * 3) }, () => [
          oneOf(random, headerNames),
          oneOf(random, headerValues),
        ]),
      ),
    )
  if (random() < 0.05)
    input.method = oneOf(random, [
      'GET',
      'PUT',
      'PATCH',
      'DELETE',
      'POST',
      'OPTIONS',
      'HEAD',
      'TRACE',
      'PROPFIND',
    ])
  if (hasBody(row) || row.method === 'POST' || random() < 0.05) return withBody(random, row, input)
  input.kind = /[?]/.test(input.target) ? 'query' : 'path'
  return input
}

function targetOf(random: Random, row: Endpoint): string {
  let path = row.path.replace(/\{\w+\}/g, () =>
    random() < 0.4 ? String(1 + Math.floor(random() * 60)) : oneOf(random, encoded),
  )
  if (random() < 0.05) path = path.replaceAll('/', '//')
  if (random() < 0.05)
    path += oneOf(random, ['/', '/..', '/.', '/%2e%2e', '%00', ';a=b', '/x', '//', '\\', '/~'])
  if (random() < 0.02)
    path = oneOf(random, [
      '/',
      '//',
      '/..',
      '/%',
      '/%zz',
      '/api',
      '/api/v1/../v0/workers',
      '/a'.repeat(3000),
      '/\\..\\',
      '/?',
      '/#',
    ])
  const known = Object.keys(row.query.entries)
  const count = random() < 0.5 ? Math.floor(random() * 5) : 0
  const query = Array.from(
    { length: count },
    () =>
      `${random() < 0.7 && known.length > 0 ? oneOf(random, known) : oneOf(random, members)}${random() < 0.9 ? `=${oneOf(random, encoded)}` : ''}`,
  )
  return query.length === 0 ? path : `${path}?${query.join('&')}`
}

function withBody(random: Random, row: Endpoint, input: Input): Input {
  input.headers['content-type'] = random() < 0.85 ? 'application/json' : oneOf(random, types)
  const wanted = 'entries' in row.body ? Object.keys(row.body.entries as object) : []
  const text =
    random() < 0.1
      ? oneOf(random, [
          '',
          '{',
          '[',
          'null',
          '"',
          '{"a":}',
          deep,
          '\u0000',
          '{"name":"\\ud800"}',
          '9'.repeat(400),
          '{"name":' + '{"a":'.repeat(5000),
        ])
      : JSON.stringify(documentOf(random, wanted, 2))
  input.kind = 'JSON'
  input.body = Buffer.from(text)
  if (random() < 0.1) input.body = flipped(random, input.body)
  if (random() < 0.35) return withCoding(random, input)
  return input
}

function documentOf(random: Random, wanted: readonly string[], depth: number): unknown {
  if (depth === 0 || random() < 0.1) return oneOf(random, values)
  const entries = wanted.filter(() => random() < 0.9).map((name) => [name, valueOf(random, depth)] as const)
  const extra = Array.from(
    { length: Math.floor(random() * 3) },
    () => [oneOf(random, names), valueOf(random, depth)] as const,
  )
  return Object.fromEntries([...entries, ...extra])
}

function valueOf(random: Random, depth: number): unknown {
  const chance = random()
  if (chance < 0.7) return oneOf(random, values)
  if (chance < 0.85)
    return Array.from({ length: Math.floor(random() * 4) }, () =>
      documentOf(random, names.slice(0, 8), depth - 1),
    )
  return documentOf(random, names.slice(5, 12), depth - 1)
}

function withCoding(random: Random, input: Input): Input {
  const coding = oneOf(random, codings)
  const plain = Buffer.from(input.body ?? [])
  input.headers['content-encoding'] = coding
  input.kind = 'coding'
  const chance = random()
  if (chance < 0.02)
    Object.assign(input, {
      body: bomb,
      headers: { ...input.headers, 'content-encoding': 'zstd' },
      kind: 'bomb',
    })
  else if (chance < 0.04)
    Object.assign(input, {
      body: gzipBomb,
      headers: { ...input.headers, 'content-encoding': 'gzip' },
      kind: 'bomb',
    })
  else {
    const packed = packedAs(coding, plain)
    input.body =
      chance < 0.4
        ? packed
        : chance < 0.7
          ? packed.subarray(0, Math.floor(random() * packed.length))
          : flipped(random, packed)
  }
  return input
}

function packedAs(coding: string, plain: Buffer): Buffer {
  if (/zstd/i.test(coding)) return zlib.zstdCompressSync(plain)
  if (/gzip/.test(coding)) return zlib.gzipSync(plain)
  if (coding === 'deflate') return zlib.deflateSync(plain)
  return coding === 'br' ? zlib.brotliCompressSync(plain) : plain
}

function flipped(random: Random, bytes: Uint8Array): Buffer {
  const copy = Buffer.from(bytes)
  for (let n = 0; n < 4 && copy.length > 0; n++)
    copy[Math.floor(random() * copy.length)] = Math.floor(random() * 256)
  return copy
}

/** Bytes that are hardly HTTP. */
export const wireInputs: readonly (readonly [string, string])[] = [
  ['nothing that is HTTP', 'hello\r\n\r\n'],
  ['bytes of TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  [
    'a header flood',
    `GET / HTTP/1.1\r\nHost: x\r\n${Array.from({ length: 5000 }, (_, n) => `x-${n}: y\r\n`).join('')}\r\n`,
  ],
  ['a header without an end', `GET / HTTP/1.1\r\nx: ${'y'.repeat(200_000)}`],
  ['an address without an end', `GET /${'a'.repeat(200_000)} HTTP/1.1\r\n\r\n`],
  [
    'two lengths',
    'POST /api/v1/queue HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
  ],
  [
    'length and chunks',
    'POST /api/v1/queue HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['a negative length', 'POST /api/v1/queue HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'],
  ['a huge length', 'POST /api/v1/queue HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n'],
  ['a broken chunk', 'POST /api/v1/queue HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
  [
    'a chunk of 4 GiB',
    'POST /api/v1/queue HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nx',
  ],
  ['no host', 'GET /api/v1/dashboard HTTP/1.1\r\n\r\n'],
  ['a host that is none', 'GET /api/v1/dashboard HTTP/1.1\r\nHost: a b/\\?#\r\n\r\n'],
  ['an empty host', 'GET /api/v1/dashboard HTTP/1.1\r\nHost:\r\n\r\n'],
  ['a host with a port too large', 'GET /api/v1/dashboard HTTP/1.1\r\nHost: x:99999\r\n\r\n'],
  ['a whole address', 'GET http://other.example/api/v1/dashboard HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['an address that is none', 'GET http://[::zz]/ HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a star', 'OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['a tunnel', 'CONNECT other.example:443 HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['an upgrade', 'GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n'],
  ['HTTP/2 from the start', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['HTTP/0.9', 'GET /\r\n\r\n'],
  ['a folded header', 'GET /api/v1/dashboard HTTP/1.1\r\nHost: x\r\nx: a\r\n b\r\n\r\n'],
  ['NUL in the address', 'GET /api\u0000/v1 HTTP/1.1\r\nHost: x\r\n\r\n'],
  ['high bytes in the address', 'GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n'],
  [
    'an expectation',
    'POST /api/v1/queue HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nContent-Length: 0\r\n\r\n',
  ],
]
