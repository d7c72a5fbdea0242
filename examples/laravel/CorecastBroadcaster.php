<?php

namespace App\Broadcasting;

use Illuminate\Broadcasting\BroadcastException;
use Illuminate\Broadcasting\Broadcasters\Broadcaster;
use Illuminate\Support\Arr;
use Illuminate\Support\Facades\Http;
use Symfony\Component\HttpKernel\Exception\AccessDeniedHttpException;

/**
 * A driver for Laravel's broadcasting that publishes events to Corecast.
 *
 * Subscribers receive {"event": name, "data": payload}.
 */
class CorecastBroadcaster extends Broadcaster
{
    public function __construct(private string $url, private string $key)
    {
    }

    /** Corecast has no tokens yet, so there are no private channels and no presence channels. */
    public function auth($request)
    {
        throw new AccessDeniedHttpException();
    }

    public function validAuthenticationResponse($request, $result)
    {
        return $result;
    }

    public function broadcast(array $channels, $event, array $payload = [])
    {
        // The id of the sender's socket is of Pusher and Reverb only.
        $data = ['event' => $event, 'data' => Arr::except($payload, 'socket')];
        $answer = Http::withHeaders(['X-API-Key' => $this->key])
            ->timeout(10)
            ->post("{$this->url}/api/broadcast", [
                'channels' => $this->formatChannels($channels),
                'data' => $data,
            ])
            ->throw()
            ->json();
        // Errors come in the body, with status 200: of the request, or of single channels.
        $replies = [$answer, ...Arr::get($answer, 'result.responses', [])];
        foreach ($replies as $reply) {
            if (isset($reply['error'])) {
                throw new BroadcastException("Corecast: {$reply['error']['message']}");
            }
        }
    }
}
