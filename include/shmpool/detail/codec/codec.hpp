// Everything that turns arguments and results into messages and back.
//
// Thread safety: functions without state; a message belongs to one thread at a time.
#pragma once

#include <shmpool/detail/codec/array_codec.hpp>
#include <shmpool/detail/codec/parameter_codec.hpp>
#include <shmpool/detail/codec/result_codec.hpp>
#include <shmpool/detail/codec/value_codec.hpp>
