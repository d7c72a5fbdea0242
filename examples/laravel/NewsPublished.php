<?php

namespace App\Events;

use Illuminate\Broadcasting\Channel;
use Illuminate\Contracts\Broadcasting\ShouldBroadcastNow;

/** News for everybody: `event(new NewsPublished('Hello'))`. */
class NewsPublished implements ShouldBroadcastNow
{
    public function __construct(public string $text)
    {
    }

    public function broadcastOn()
    {
        return [new Channel('news')];
    }

    public function broadcastAs()
    {
        return 'news.published';
    }
}
