import * as v from 'valibot'
import { TextOrNull, freshnessQuery, originQuery } from './common.ts'
import { endpoint } from './endpoint.ts'
import { Reason, type ReasonClass } from './reasons.ts'
import { Count, text, type Shape } from './schema.ts'

const seen = v.object(freshnessQuery)
const DistributionPath = v.object({ distribution: text() })
const ReleasePath = v.object({ distribution: text(), release: text() })

export const listDistributions = endpoint('GET', '/api/v1/meta/distributions', {
  doc: 'The distributions known.',
  conditional: true,
  query: seen,
  reply: v.array(v.string()),
})

export const listReleases = endpoint('GET', '/api/v1/meta/distributions/{distribution}/releases', {
  doc: 'The releases of a distribution; null stands for packages without one.',
  conditional: true,
  params: DistributionPath,
  query: seen,
  reply: v.array(TextOrNull),
})

export const listArchitectures = endpoint('GET', '/api/v1/meta/distributions/{distribution}/architectures', {
  doc: 'The architectures that a distribution is built for.',
  conditional: true,
  params: DistributionPath,
  query: seen,
  reply: v.array(v.string()),
})

export const listReleaseArchitectures = endpoint(
  'GET',
  '/api/v1/meta/distributions/{distribution}/releases/{release}/architectures',
  {
    doc: 'The architectures of a release; `-` stands for packages without one.',
    conditional: true,
    params: ReleasePath,
    query: seen,
    reply: v.array(v.string()),
  },
)

const ComponentPath = v.object({ ...ReleasePath.entries, component: text() })
const names = v.array(v.string())
const namesOrNull = v.array(TextOrNull)

export const listComponents = endpoint('GET', '/api/v1/meta/distributions/{distribution}/components', {
  doc: 'The components of a distribution, for web pages made for 0.26; null stands for packages without one.',
  conditional: true,
  params: DistributionPath,
  query: seen,
  reply: namesOrNull,
  upstream: false,
})

export const listReleaseComponents = endpoint(
  'GET',
  '/api/v1/meta/distributions/{distribution}/releases/{release}/components',
  {
    doc: 'The components of a release; `-` stands for packages without one.',
    conditional: true,
    params: ReleasePath,
    query: seen,
    reply: namesOrNull,
    upstream: false,
  },
)

export const listComponentArchitectures = endpoint(
  'GET',
  '/api/v1/meta/distributions/{distribution}/releases/{release}/components/{component}/architectures',
  {
    doc: 'The architectures that a component of a release is built for; `-` stands for none.',
    conditional: true,
    params: ComponentPath,
    query: seen,
    reply: names,
    upstream: false,
  },
)

export const listComponentsShort = endpoint(
  'GET',
  '/api/v1/meta/distributions/{distribution}/{release}/components',
  {
    doc: 'The components of a release, by the path that a web page for many distributions uses.',
    conditional: true,
    params: ReleasePath,
    query: seen,
    reply: namesOrNull,
    upstream: false,
  },
)

export const listArchitecturesShort = endpoint(
  'GET',
  '/api/v1/meta/distributions/{distribution}/{release}/architectures',
  {
    doc: 'The architectures of a release, by that path.',
    conditional: true,
    params: ReleasePath,
    query: seen,
    reply: names,
    upstream: false,
  },
)

export const PublicKeys = v.object({ current: v.array(v.string()) })

export const getPublicKeys = endpoint('GET', '/api/v1/meta/public-keys', {
  doc: 'The public key that countersigns attestations, as PEM with CRLF and a NULL parameter, as in-toto clients need it.',
  conditional: true,
  reply: PublicKeys,
})

export const Dashboard = v.object({
  rebuilds: v.object({ good: Count, bad: Count, fail: Count, unknown: Count }),
  jobs: v.object({ running: Count, available: Count, pending: Count }),
  /** Ours only: listed build inputs that are not GOOD, by reason. */
  reasons: v.optional(v.record(v.string(), Count), {}),
})
export type Dashboard = Shape<typeof Dashboard>

export const getDashboard = endpoint('GET', '/api/v1/dashboard', {
  doc: 'Numbers of rebuilds by verdict and of jobs by state.',
  conditional: true,
  query: v.object(originQuery),
  reply: Dashboard,
})

/** When rebuilds are tried again, and what else the operator has decided. */
export const Policy = v.object({
  /** After the n-th failure in a row that is the package's, it waits n times this many hours. */
  retry_delay_hours: v.number(),
  /** Tries that end by the package before it is left alone; null: it never is. */
  max_retries: v.nullable(Count),
  /** After a failure of infrastructure; doubled each time. */
  infrastructure_retry_minutes: v.number(),
  infrastructure_max_retries: Count,
  /** What is new waits this long for its build input. */
  initial_delay_seconds: v.number(),
  /** A worker that is silent for so long loses its job. */
  lease_seconds: v.number(),
  /** Attestations are signed with the server's key too, after they were checked. */
  countersigns: v.boolean(),
  version: v.string(),
})
export type Policy = Shape<typeof Policy>

export const getPolicy = endpoint('GET', '/api/v1/meta/policy', {
  doc: 'When rebuilds are tried again, and what else the operator has decided.',
  conditional: true,
  reply: Policy,
  upstream: false,
})

const ReasonInWords = v.object({
  reason: Reason,
  turn: v.picklist(['package', 'infrastructure'] satisfies ReasonClass[]),
  meaning: v.string(),
  advice: v.string(),
})

export const listReasons = endpoint('GET', '/api/v1/meta/reasons', {
  doc: 'Every reason that a verdict may have: whose turn it is, what it means, what to do about it.',
  conditional: true,
  reply: v.array(ReasonInWords),
  upstream: false,
})

export const getOpenApi = endpoint('GET', '/api/v1/openapi.json', {
  doc: 'This API, described (OpenAPI 3.1).',
  conditional: true,
  reply: v.record(v.string(), v.unknown()),
  upstream: false,
})

export const Health = v.object({ status: v.literal('ok'), version: v.string() })
export const getHealth = endpoint('GET', '/api/v1/health', {
  doc: 'Whether the server answers and its database can be read.',
  reply: Health,
  upstream: false,
})
