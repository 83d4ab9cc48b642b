import { licenceTexts } from '../assets.ts'
import { Complaint } from '../errors.ts'
import { command } from './command.ts'

export const licenses = command(
  'licenses',
  'Print the licences of this program and of everything that is inside it',
  {},
  async (_, __, { write }) => {
    const texts = licenceTexts()
    if (texts === undefined) {
      throw new Complaint('only the built program carries licences', {
        hint: 'here they are LICENSE and, for each package, the file in its folder below node_modules',
      })
    }
    write(texts)
  },
)
