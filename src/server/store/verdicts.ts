/** How many build inputs have which verdict. */
import { sql, trusted, type Database } from './database.ts'
import { bounds, tallied, type Tally } from './counting.ts'
import { answerOf, numberOf, revisionOf } from './narrow.ts'
import { scopesWith } from './origins.ts'
import { binaryCount, hasComponent, type PackageFilter } from './packages.ts'
import { given, whereOf } from './page.ts'
import { question } from './work.ts'

type VerdictCounts = { good: number; bad: number; fail: number; unknown: number }

/** Listed build inputs by verdict. */
export async function countVerdicts(db: Database, filter: PackageFilter): Promise<VerdictCounts> {
  const tallies = await verdictsOf(db, filter)
  const sum = (status: string): number =>
    tallies.reduce((total, { word, n }) => total + (word === status ? n : 0), 0)
  const [good, bad, fail] = [sum('GOOD'), sum('BAD'), sum('FAIL')]
  const all = tallies.reduce((total, { n }) => total + n, 0)
  return { good, bad, fail, unknown: all - good - bad - fail }
}

/** Listed build inputs that have a verdict other than GOOD, by its reason. */
export async function countReasons(
  db: Database,
  filter: PackageFilter,
): Promise<{ reason: string; n: number }[]> {
  const tallies = await verdictsOf(db, filter)
  const failed = tallies.filter(({ word, detail }) => ['BAD', 'FAIL'].includes(word) && detail !== '')
  return [...Map.groupBy(failed, ({ detail }) => detail)]
    .map(([reason, rows]) => ({ reason, n: rows.reduce((sum, { n }) => sum + n, 0) }))
    .filter(({ n }) => n > 0)
    .sort((a, b) => (a.reason < b.reason ? -1 : 1))
}

/** Listed build inputs by verdict (`word`, UNKWN or empty: none) and reason. */
function verdictsOf(db: Database, filter: PackageFilter): Promise<Tally[]> {
  return answerOf(() => verdictsNow(db, filter))
}

/** null: ask again. */
const verdictsNow = question(
  'packages.verdicts',
  async (tx, filter: PackageFilter): Promise<Tally[] | null> => {
    const scopes = await scopesWith(tx, filter)
    const { component } = filter
    if (component === undefined) {
      const where = [sql`x.seen = 1`, ...given(scopes, (ids) => sql`x.scope_id IN ${ids}`)]
      return tx.all<Tally>(
        sql`SELECT x.status AS word, x.reason AS detail, sum(x.n) AS n FROM input_counts x ${whereOf(where)} GROUP BY x.status, x.reason`,
      )
    }
    const condition = hasComponent(tx, 'i.source_package_id', component)
    const isRare = (await numberOf(tx, binaryCount({ component }, null))) <= bounds.few
    const conditions = [
      sql`i.seen = 1`,
      ...given(scopes, (ids) => sql`+i.scope_id IN ${ids}`),
      condition.test(trusted(isRare ? '' : '+')),
    ]
    const kind = { word: `coalesce(i.status, '')`, detail: `coalesce(i.reason, '')` }
    const table = trusted('build_inputs i')
    if (!isRare)
      return tallied(
        tx,
        { table, id: 'i.id', conditions, revision: await revisionOf(tx, ['packages']) },
        kind,
      )
    return tx.all<Tally>(
      sql`SELECT ${trusted(kind.word)} AS word, ${trusted(kind.detail)} AS detail, count(*) AS n FROM ${table} ${whereOf(conditions)} GROUP BY 1, 2`,
    )
  },
)
