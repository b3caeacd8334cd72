import { Controller, Get, Inject, Param } from '@nestjs/common';
import type { TopicDescription } from '#command-log';
import { GatewayServices } from '../gateway-services.js';

/** Topics as the log describes them. */
@Controller('v1/topics')
export class TopicsController {
  constructor(@Inject(GatewayServices) private readonly services: GatewayServices) {}

  @Get()
  list(): { readonly topics: readonly TopicDescription[] } {
    return { topics: this.services.topics.list() };
  }

  @Get(':topic')
  one(@Param('topic') topic: string): Promise<TopicDescription> {
    return this.services.topics.topic(topic);
  }
}
