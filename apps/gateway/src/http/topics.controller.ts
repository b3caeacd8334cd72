import { Controller, Get, Inject, Param } from '@nestjs/common';
import type { TopicDescription } from '#command-log';
import { GatewayServices } from '../gateway-services.js';

/** Topics as the log describes them. */
@Controller('v1/topics')
export class TopicsController {
  constructor(@Inject(GatewayServices) private readonly services: GatewayServices) {}

  @Get()
  async list(): Promise<{ readonly topics: readonly TopicDescription[] }> {
    return { topics: (await this.services.topics.describe()).topics };
  }

  @Get(':topic')
  async one(@Param('topic') name: string): Promise<TopicDescription> {
    const topic = (await this.services.topics.describe()).topics.find((each) => each.name === name);
    return topic ?? this.services.topics.topic(name);
  }
}
