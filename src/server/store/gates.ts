import type { IndexTrust } from '../../wire/packages.ts'
import { sql, type Database, type Row } from './database.ts'

export type FoundRow = Row & {
  position: number
  version: string
  status: string | null
  reason: string | null
  release: string
  sha256: string | null
  size: number | null
  build_id: number | null
  artifact_id: number | null
  /** SHA-256 of its file */
  attestation: string | null
  decided_at: string | null
  seen: number
  index: IndexTrust
}

type Wanted = {
  distribution: string
  name: string
  version: string
  architecture: string
  any_epoch?: boolean | undefined
}

/**
 * Binary packages that match, with the position of what they match. Found by their names: thousands of packages may
 * have the same version, and the planner would rather ask the index of those.
 */
export function lookedUp(db: Database, wanted: readonly Wanted[]): Promise<FoundRow[]> {
  const asked = JSON.stringify(
    wanted.map(({ distribution, name, version, architecture, any_epoch: isLoose = false }) => [
      distribution,
      name,
      version,
      architecture,
      isLoose ? 1 : 0,
    ]),
  )
  return db.all<FoundRow>(sql`
    SELECT w.key AS position, b.version, b.status, b.reason, r.name AS release, b.sha256, b.size, b.build_id, b.artifact_id, f.sha256 AS attestation,
           b.decided_at, b.seen, c.index_trust AS "index"
      FROM json_each(${asked}) w
      CROSS JOIN binary_packages b INDEXED BY binary_packages_by_name ON b.name = json_extract(w.value, '$[1]')
      JOIN releases r ON r.id = b.release_id JOIN scopes c ON c.id = b.scope_id
      LEFT JOIN blobs f ON f.id = b.attestation_id
     WHERE iif(json_extract(w.value, '$[4]') = 1, substr(b.version, instr(b.version, ':') + 1), b.version) = json_extract(w.value, '$[2]') AND b.architecture = json_extract(w.value, '$[3]')
       AND r.distribution = json_extract(w.value, '$[0]')`)
}

/** Files of attestations, with the position of what asked for them. */
export function attestationShas(
  db: Database,
  wanted: readonly { build_id: number; artifact_id: number }[],
): Promise<(Row & { position: number; sha256: string })[]> {
  const asked = JSON.stringify(wanted.map(({ build_id, artifact_id }) => [build_id, artifact_id]))
  return db.all(sql`
    SELECT w.key AS position, f.sha256
      FROM json_each(${asked}) w
      CROSS JOIN artifacts a ON a.id = json_extract(w.value, '$[1]')
      JOIN blobs f ON f.id = a.attestation_id
     WHERE a.build_id = json_extract(w.value, '$[0]')`)
}

export type ExportRow = Row & {
  id: number
  name: string
  version: string
  architecture: string
  source_name: string
  source_version: string
  release: string
  status: string | null
  reason: string | null
  sha256: string | null
  build_id: number | null
  artifact_id: number | null
  index: IndexTrust
}

/** Listed packages in the order of (name, id), after a row. */
export function exportRows(
  db: Database,
  distribution: string,
  releases: readonly string[] | null,
  after: { name: string; id: number },
  limit: number,
): Promise<ExportRow[]> {
  const wanted = releases === null ? sql`1` : sql`r.name IN ${releases}`
  return db.all<ExportRow>(sql`
    SELECT b.id, b.name, b.version, b.architecture, s.name AS source_name, s.version AS source_version, r.name AS release,
           b.status, b.reason, b.sha256, b.build_id, b.artifact_id, c.index_trust AS "index"
      FROM binary_packages b JOIN releases r ON r.id = b.release_id JOIN scopes c ON c.id = b.scope_id JOIN source_packages s ON s.id = b.source_package_id
     WHERE (b.name, b.id) > (${after.name}, ${after.id}) AND b.seen = 1 AND r.distribution = ${distribution} AND ${wanted}
     ORDER BY b.name, b.id LIMIT ${limit}`)
}
