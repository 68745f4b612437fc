// Everything that turns arguments and results into messages and back.
#pragma once

#include <shmpool/detail/array_codec.hpp>
#include <shmpool/detail/parameter_codec.hpp>
#include <shmpool/detail/result_codec.hpp>
#include <shmpool/detail/value_codec.hpp>
