import { cp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** What makepkg checks of recipes, which starts more than a thousand programs for each package. */
export const checksOfRecipes = '/usr/share/makepkg/lint_pkgbuild.sh'

/** A file to have in its place, for packages that a test only begins with. */
export async function noChecksOfRecipes(folder: string): Promise<string> {
  const file = join(folder, 'lint_pkgbuild.sh')
  await writeFile(file, 'lint_pkgbuild() { :; }\n')
  return file
}

/** makepkg's library without those checks: a folder for `LIBRARY` in its environment. */
export async function libraryWithoutChecks(folder: string): Promise<string> {
  const library = join(folder, 'library')
  await cp('/usr/share/makepkg', library, { recursive: true })
  await noChecksOfRecipes(library)
  return library
}
