import { Apply, View, expiring, type Next, type ViewEvent } from '#views';
import type { Package } from './package-index.js';

export const TOPIC = 'packages';
export const VIEW = 'debian';

/** Of a maintainer, the name without the address. */
export const maintainerName = ({ maintainer }: Package): string => maintainer.replace(/\s*<.*$/, '');

/** The packages there are, by section and by maintainer. One that is announced for a time only goes to the archive after it. */
@View<Package>({
  topic: TOPIC,
  name: VIEW,
  version: 1,
  archive: true,
  indexes: { section: ({ section }) => section, maintainer: maintainerName },
})
export class DebianPackages {
  @Apply('package')
  available(_known: Package | null, { value, ttlMs }: ViewEvent<Package>): Next<Package> {
    return ttlMs === null ? value : expiring(value, ttlMs);
  }

  @Apply('withdrawn')
  withdrawn(): null {
    return null;
  }
}
