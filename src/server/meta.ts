/** What there is: distributions, releases, components, architectures; the numbers of all of it, the public key, and how to ask. */
import { publicKeyToPem } from '../attestation.ts'
import {
  getDashboard,
  getHealth,
  getOpenApi,
  getPolicy,
  getPublicKeys,
  listArchitectures,
  listArchitecturesShort,
  listComponentArchitectures,
  listComponents,
  listComponentsShort,
  listDistributions,
  listReleaseArchitectures,
  listReasons,
  listReleaseComponents,
  listReleases,
  type Policy,
} from '../wire/meta.ts'
import { endpoints } from '../wire/index.ts'
import { openApi } from '../wire/openapi.ts'
import { reasonCodes, reasons } from '../wire/reasons.ts'
import { wireTime } from '../wire/schema.ts'
import { version } from '../version.ts'
import { dashboard } from './overview.ts'
import { constantRevision, revisionOf, tagged, type Revision } from './revision.ts'
import type { Mount } from './route.ts'
import type { Service } from './service.ts'
import { generationsOf } from './store/generations.ts'
import { isAnyDue } from './store/queue.ts'
import {
  architectureNames,
  componentArchitectures,
  componentNames,
  distributionNames,
  releaseNames,
} from './store/origins.ts'
import { advice } from './web/advice.ts'

/** Mounts what the server tells of itself: keys, policy, numbers, the names of what it knows, the API. */
export function mountMeta(mount: Mount, service: Service): void {
  const { db, signingKey, now } = service
  const policy = policyOf(service)
  mount(getPolicy, async () => policy, constantRevision(now, policy))
  const words = reasonCodes.map((reason) => {
    const [turn, meaning] = reasons[reason]
    return { reason, turn, meaning, advice: advice[reason] }
  })
  mount(listReasons, async () => words, constantRevision(now, words))
  const keys = { current: [publicKeyToPem(signingKey.publicKey)] }
  mount(getPublicKeys, async () => keys, constantRevision(now, keys))
  const data = revisionOf(service, 'packages', 'queue')
  /** Between the moment at which a wait is over and the one at which that is written down, the clock alone changes numbers. */
  const revision = async (): Promise<Revision> => {
    const moment = wireTime(now())
    const told = await data.revision()
    return (await isAnyDue(db, moment)) ? { ...tagged(told, moment), isSettled: false } : told
  }
  mount(getDashboard, ({ query }) => dashboard(db, query, now()), { revision })
  mountNames(mount, service)
  mountDescription(mount, service)
}

/** Whether this server is there, and what it can be asked. */
function mountDescription(mount: Mount, { db, now }: Service): void {
  let made: { json: string; revision: () => Promise<Revision> } | undefined
  const description = (): NonNullable<typeof made> => {
    if (made !== undefined) return made
    const document = openApi(endpoints, version)
    return (made = { json: JSON.stringify(document), ...constantRevision(now, document) })
  }
  mount(getOpenApi, async () => ({ json: description().json }), { revision: () => description().revision() })
  mount(getHealth, async () => {
    await generationsOf(db, ['packages'])
    return { status: 'ok' as const, version }
  })
}

/** Names of what is known: they change with packages only. */
function mountNames(mount: Mount, service: Service): void {
  const { db } = service
  const packages = revisionOf(service, 'packages')
  mount(listDistributions, ({ query }) => distributionNames(db, query.seen_only), packages)
  mount(
    listReleases,
    async ({ params, query }) => shown(await releaseNames(db, params.distribution, query.seen_only)),
    packages,
  )
  mount(
    listArchitectures,
    ({ params, query }) => architectureNames(db, params.distribution, undefined, query.seen_only),
    packages,
  )
  for (const row of [listReleaseArchitectures, listArchitecturesShort])
    mount(
      row,
      ({ params, query }) =>
        architectureNames(db, params.distribution, stored(params.release), query.seen_only),
      packages,
    )
  mount(
    listComponents,
    async ({ params, query }) =>
      shown(await componentNames(db, params.distribution, undefined, query.seen_only)),
    packages,
  )
  for (const row of [listReleaseComponents, listComponentsShort])
    mount(
      row,
      async ({ params, query }) =>
        shown(await componentNames(db, params.distribution, stored(params.release), query.seen_only)),
      packages,
    )
  mount(
    listComponentArchitectures,
    ({ params: { distribution, release, component }, query }) =>
      componentArchitectures(db, distribution, stored(release), stored(component), query.seen_only),
    packages,
  )
}

function policyOf({ schedule, countersigns }: Service): Policy {
  return {
    retry_delay_hours: schedule.retryDelayHours,
    max_retries: schedule.maxRetries,
    infrastructure_retry_minutes: schedule.infrastructureRetryMinutes,
    infrastructure_max_retries: schedule.infrastructureMaxRetries,
    initial_delay_seconds: schedule.initialDelaySeconds,
    lease_seconds: schedule.leaseSeconds,
    countersigns,
    version,
  }
}

/** In a path `-` stands for "none", which the database keeps as the empty text. */
function stored(name: string): string {
  return name === '-' ? '' : name
}

function shown(names: readonly string[]): (string | null)[] {
  return names.map((name) => (name === '' ? null : name))
}
